"""Sources -> one iterator of frames."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from .image import UnreadableImage, read_image

PICTURES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".dib",
        ".webp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".jp2",
        ".avif",
        ".gif",
    ]
)
VIDEOS = frozenset(
    [".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp", ".ogv"]
)
MAX_MISSED = 50  # frames that a camera or stream may fail to give in a row before it counts as gone


@dataclass(frozen=True, eq=False)
class Frame:
    """One picture, from wherever.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        source: path, address or camera number that it came from.
        index: number of the frame in its video, from 0; None for a picture.
        time: seconds from the start of the video; None for a picture.
        rate: frames a second of the video; None for a picture.
    """

    image: np.ndarray
    source: str
    index: int | None = None
    time: float | None = None
    rate: float | None = None

    @property
    def name(self) -> str:
        """The source, with the number of the frame where there is one."""
        return self.source if self.index is None else f"{self.source} frame {self.index}"


@dataclass(frozen=True)
class Failed:
    """A source that could not be used; the others go on."""

    source: str
    error: Exception


@dataclass(frozen=True)
class Input:
    """One thing to open. ``kind`` is picture, video or live; ``source`` what the user called it."""

    source: str
    kind: str


def expand(sources: Sequence[str]) -> list[Input]:
    """Folders and patterns -> the files that they stand for, in natural order (2 before 10).

    A number is a camera, anything with ``://`` a stream. A folder gives its pictures and videos, by suffix; subfolders
    are left alone (``folder/**`` reaches them). A file that is named outright is tried whatever its suffix.

    Raises:
        FileNotFoundError: a path that does not exist, a pattern or folder that holds nothing.
    """
    found: list[Input] = []
    for source in sources:
        path = Path(source)
        if re.fullmatch(r"\d+", source) or "://" in source:
            found.append(Input(source, "live"))
        elif path.is_dir():
            found += _inside(source, (str(p) for p in path.iterdir()), "folder")
        elif path.exists():
            found.append(Input(source, "video" if path.suffix.lower() in VIDEOS else "picture"))
        elif glob.has_magic(source):
            found += _inside(source, glob.iglob(source, recursive=True), "pattern")
        else:
            raise FileNotFoundError(
                f"{source}: no such file or folder; give a picture, video, folder, pattern or camera"
            )
    return found


def _inside(source: str, paths: Iterator[str], kind: str) -> list[Input]:
    known = PICTURES | VIDEOS
    files = [p for p in paths if Path(p).suffix.lower() in known and os.path.isfile(p)]
    if not files:
        raise FileNotFoundError(f"{source}: {kind} without pictures or videos (by suffix: {' '.join(sorted(known))})")
    return [Input(p, "video" if Path(p).suffix.lower() in VIDEOS else "picture") for p in sorted(files, key=_natural)]


def _natural(name: str) -> list[tuple[int, Any]]:
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def frames(inputs: Iterable[Input]) -> Iterator[Frame | Failed]:
    """All frames of what :func:`expand` found, one at a time; what cannot be read comes as :class:`Failed` instead."""
    for item in inputs:
        try:
            if item.kind == "picture":
                yield Frame(read_image(item.source), item.source)
            else:
                yield from _video(item)
        except (OSError, ValueError, cv2.error, MemoryError) as error:
            yield Failed(_without_login(item.source), error)


def _without_login(source: str) -> str:
    """rtsp://user:secret@host -> rtsp://host: what is shown and written must not hold a password."""
    return re.sub(r"://[^/@]*@", "://", source)


def _video(item: Input) -> Iterator[Frame]:
    live = item.kind == "live"
    shown = _without_login(item.source)
    capture = cv2.VideoCapture(int(item.source) if live and item.source.isdigit() else item.source)
    try:
        if not capture.isOpened():
            what = (
                "camera or stream cannot be opened; is it there, and free?"
                if live
                else "not a video that OpenCV can decode"
            )
            raise UnreadableImage(f"{shown}: {what}")
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate <= 1000 else 30.0
        promised = 0 if live else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        index, missed, seconds, began = 0, 0, 0.0, time.monotonic()
        while True:
            ok, bgr = capture.read()
            if ok:
                missed = 0
                # A file says when the frame just read is shown; cameras fill that with clocks of their own.
                seconds = time.monotonic() - began if live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), shown, index, max(seconds, 0.0), rate)
                index += 1
                continue
            missed += 1
            if not live or missed > MAX_MISSED:
                break
    finally:
        capture.release()
    # Some containers only estimate their count, from duration and mean rate: what is cut off misses time as well.
    if index == 0 or (index < 0.98 * promised - 2 and seconds < 0.98 * promised / rate - 2 / rate):
        raise UnreadableImage(f"{shown}: ends after {index} of {promised} frames; the file is cut off or damaged")
