"""The tasks of a worker, and its results."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass

FOLDER = 1000  # files per folder, which object stores and file systems list quickly


@dataclass(frozen=True)
class Work:
    """One file of rows: a block of images, a shard, or a video.

    Attributes:
        number: its place in the order of the sources.
        kind: images, tar, parquet or video.
        sources: paths or addresses; only one, except for images.
    """

    number: int
    kind: str
    sources: tuple[str, ...]

    @property
    def digest(self) -> str:
        """A digest of kind and sources, so that a repeated task replaces its own file."""
        return hashlib.sha256(json.dumps([self.kind, *self.sources]).encode("utf-8", "surrogateescape")).hexdigest()[
            :16
        ]

    @property
    def name(self) -> str:
        """The name of its files, without a suffix."""
        return f"part={self.number // FOLDER:06d}/{self.number:09d}-{self.digest}"


@dataclass(frozen=True)
class Segment:
    """A part of a video.

    Attributes:
        first: number of its first frame in the video.
        end: number of the frame after its last one; None for the rest of the video.
        start: seconds from the beginning of the video to its first frame.
    """

    first: int = 0
    end: int | None = None
    start: float = 0.0

    @property
    def name(self) -> str:
        """The name of its file."""
        return f"{self.first:09d}-{'end' if self.end is None else f'{self.end:09d}'}"


WHOLE = Segment()
"""A video in one piece."""


@dataclass(frozen=True)
class Done:
    """What a task has written.

    Attributes:
        frames: images and frames with rows.
        people: rows with a person.
        failed: inputs in the table of failures.
    """

    frames: int = 0
    people: int = 0
    failed: int = 0

    def __add__(self, other: Done) -> Done:
        return Done(self.frames + other.frames, self.people + other.people, self.failed + other.failed)


@dataclass(frozen=True)
class Care:
    """Precautions for a task that made workers die.

    Attributes:
        leave: inputs, by index, that are written as failed without being opened, with the reason.
        mark: write down which input is next before it is opened.
    """

    leave: tuple[tuple[int, str], ...] = ()
    mark: bool = False
