"""Results of many frames -> one file, written as they come, to save memory and to keep them after a crash."""

from __future__ import annotations

import csv
import io
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

from ..errors import ConfigError, MissingFileError, OutputError
from ..poses import Poses
from ..poses.tables import CSV_COLUMNS
from ..skeleton import BODY_25, COCO_17, OPENPOSE_18, Skeleton
from .folders import OpenPoseFolder
from .overwrite import make_folder, named
from .parquet import ParquetFile
from .trc import TrcFolder

SUFFIXES = {".jsonl": "lithepose", ".ndjson": "lithepose", ".json": "lithepose", ".csv": "csv", ".parquet": "parquet"}


class Place(Protocol):
    """Where poses were found, as in :class:`lithepose.media.sources.Frame`."""

    @property
    def source(self) -> str:
        """Path, address or camera number."""
        ...

    @property
    def index(self) -> int | None:
        """Number of the frame of a video; None for an image."""
        ...

    @property
    def time(self) -> float | None:
        """Seconds from the start of the video; None for an image."""
        ...

    @property
    def clock(self) -> float | None:
        """Seconds since 1970 (UTC) at which a frame of a camera or stream was read; None for others."""
        ...

    @property
    def name(self) -> str:
        """The source and the number of the frame."""
        ...


class Results(Protocol):
    """A file or folder of results."""

    def write(self, frame: Place, poses: Poses) -> None:
        """Append the result of one frame."""
        ...

    def close(self) -> None:
        """Finish the file or folder."""
        ...


@dataclass(frozen=True)
class ResultConfig:
    """How results are written.

    Attributes:
        output: standard output, for the path ``-``.
        append: append to the file if it exists.
        ids: COCO's ``image_id`` by file name; if empty, numbers are assigned.
        skeleton: skeleton of the model, for formats that name all joints before the first person is found.
    """

    output: IO[str] | None = None
    append: bool = False
    ids: Mapping[str, int] = field(default_factory=dict)
    skeleton: Skeleton = COCO_17


def open_results(path: str | Path, format: str = "", config: ResultConfig | None = None) -> Results:
    """Open a file, or a folder, for results.

    Args:
        path: path to write to, or ``-`` for standard output.
        format: a key of :data:`FORMATS`; by default by the suffix of the path.
        config: how results are written.

    Raises:
        ConfigError: unknown format, or one that does not fit the path.
        OutputError: nothing can be written there.
    """
    format = format or format_of(path)
    if format not in FORMATS:
        raise ConfigError(f"unknown format {format!r}; choose one of {', '.join(FORMATS)}")
    return FORMATS[format](path, config or ResultConfig())


def abandon(file: Results) -> None:
    """Stop after a failure. A file that is only written at the end is not written, and an earlier one stays."""
    getattr(file, "abandon", file.close)()


def format_of(path: str | Path) -> str:
    """The format of a path, by its suffix; lithepose's own for ``-``, devices and names without a suffix.

    Raises:
        ConfigError: unknown suffix.
    """
    suffix = Path(path).suffix.lower()
    if suffix and suffix not in SUFFIXES:
        raise ConfigError(f"{path}: {suffix} files cannot be written; use one of {', '.join(SUFFIXES)}")
    return SUFFIXES.get(suffix, "lithepose")


def check_format(path: str | Path, format: str) -> None:
    """Refuse a path that has the suffix of another format.

    Raises:
        ConfigError: it has; the message names the suffixes that fit.
    """
    suffix, fitting = Path(path).suffix.lower(), FITTING.get(format, ())
    if fitting and suffix and suffix not in fitting:
        raise ConfigError(f"{path}: --format {format} needs a {' or '.join(fitting)} file")


def read_ids(path: Path) -> dict[str, int]:
    """Image ids by file name, from a COCO json.

    Raises:
        MissingFileError: no such file.
        ConfigError: it has no images with a file name and a whole number as id.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such file; pass the COCO JSON file that contains the image ids")
    try:
        images = json.loads(path.read_text(encoding="utf-8"))["images"]
        named = {str(image["file_name"]).replace("\\", "/").removeprefix("./"): image["id"] for image in images}
        if not named or not all(isinstance(number, int) for number in named.values()):
            raise ValueError("ids must be integers")
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{path}: not a COCO JSON file of images with file_name and id ({error!r})") from error
    short = Counter(name.rpartition("/")[2] for name in named)
    plain = {name.rpartition("/")[2]: number for name, number in named.items()}
    return {name: number for name, number in plain.items() if short[name] == 1} | named


class TextFile(ABC):
    """A file of lines, or standard output; opened at its first frame.

    Raises:
        OutputError: its folder cannot be made, or the path is a folder.
    """

    is_list = False  # one json list

    def __init__(self, path: str | Path, config: ResultConfig) -> None:
        self.path, self.config = Path(path), config
        self._file: IO[str] | None = None
        self._owned = str(path) != "-"
        self._begun = False
        if self._owned:
            make_folder(self.path.parent)
            if self.path.is_dir():
                raise OutputError(f"{self.path}: is a folder; pass a file for the results")

    def header(self) -> str:
        """The first line of the file."""
        return ""

    @abstractmethod
    def text(self, frame: Place, poses: Poses) -> str | list[str]:
        """The text for a frame: lines, or items of the list."""

    def _open(self) -> None:
        """Open the file at its first frame, so that a call without frames leaves an earlier file as it is."""
        if self._file is not None:
            return
        append = self.config.append and self._owned and self.path.exists() and self.path.stat().st_size > 0
        if self._owned:
            # File names need not be text; surrogateescape writes their bytes as they are.
            with named(self.path):
                self._file = self.path.open(
                    "a" if append else "w", encoding="utf-8", errors="surrogateescape", newline=""
                )
        else:
            self._file = self.config.output
            if isinstance(self._file, io.TextIOWrapper):  # a pipe on Windows is not utf-8 by default
                self._file.reconfigure(encoding="utf-8", errors="surrogateescape")
        if not append and self.header():
            self._put(self.header())

    def _put(self, text: str) -> None:
        assert self._file is not None
        with named(self.path):
            self._file.write(text)
            self._file.flush()

    def write(self, frame: Place, poses: Poses) -> None:
        """Append the result of one frame."""
        self._open()
        text = self.text(frame, poses)
        if isinstance(text, str):
            self._put(text)
            return
        for item in text:
            begun, self._begun = self._begun, True  # what cannot be written now is written with the next
            self._put((",\n" if begun else "[\n") + item)

    def close(self) -> None:
        """Finish the file."""
        if not self._owned or not self.path.exists():
            self._open()
        try:
            if self.is_list and self._file is not None:
                self._put("\n]\n" if self._begun else "[]\n")
        finally:
            if self._file is not None and self._owned:
                with named(self.path):  # what could not be written before is tried again
                    self._file.close()


class LithePoseFile(TextFile):
    """One json line per frame: source, frame, time and :meth:`Poses.to_dict`; one list of them in a ``.json`` file."""

    def __init__(self, path: str | Path, config: ResultConfig) -> None:
        super().__init__(path, config)
        self.is_list = self.path.suffix.lower() == ".json"

    def text(self, frame: Place, poses: Poses) -> str | list[str]:
        place: dict[str, Any] = {"source": frame.source, "frame": frame.index}
        place["time"] = frame.time and round(frame.time, 4)
        if frame.clock is not None:
            place["clock"] = round(frame.clock, 3)
        line = json.dumps(place | poses.to_dict(), separators=(",", ":"))
        return [line] if self.is_list else line + "\n"


class CocoFile(TextFile):
    """One json list of COCO keypoint results.

    ``image_id`` is that of ``config.ids``, or the file's name if that is a number (as in COCO), otherwise a running
    number that skips used ids. ``file_name`` gives the name of the frame, and ``keypoint_names`` the order of the
    joints.
    """

    is_list = True

    def __init__(self, path: str | Path, config: ResultConfig) -> None:
        super().__init__(path, config)
        self._count = self._counted = self._last_frame = 0
        self._ids: set[int] = set()

    def text(self, frame: Place, poses: Poses) -> list[str]:
        self._count += 1
        image_id = self._stated_id(frame) if self.config.ids else self._image_id(frame)
        more = {"file_name": frame.name, "keypoint_names": COCO_17.joints}
        return [json.dumps(result | more) for result in poses.to_coco(image_id)]

    def _stated_id(self, frame: Place) -> int:
        """The id of the longest path ending that has one."""
        parts = frame.source.replace("\\", "/").split("/")
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        found = next((self.config.ids[end] for end in ends if end in self.config.ids), None)
        if found is None or frame.index is not None:
            why = "it contains no ids for videos" if frame.index is not None else "it contains no image of this name"
            raise OutputError(f"{frame.source}: not found in the file of --ids-from ({why})")
        return found

    def _image_id(self, frame: Place) -> int:
        stem = Path(frame.source).stem
        own = frame.index is None and stem.isascii() and stem.isdigit()
        image_id = int(stem) if own else max(self._counted + 1, self._count)
        while image_id in self._ids or (own and image_id <= self._last_frame):
            image_id += 1
        if frame.index is None:
            self._ids.add(image_id)
        else:  # ids of a camera would fill the memory; they only increase
            self._last_frame = image_id
        self._counted = self._counted if own else image_id
        return image_id


class CsvFile(TextFile):
    """One row per person and joint; a frame without people has one row without a person."""

    def header(self) -> str:
        return ",".join(CSV_COLUMNS) + "\n"

    def text(self, frame: Place, poses: Poses) -> str:
        rows = poses.to_rows(frame.source, frame.index, frame.time)
        return _csv(rows or [poses.frame_row(frame.source, frame.index, frame.time, len(CSV_COLUMNS))])


class WideCsvFile(TextFile):
    """One row per person with all joints; a frame without people has one row without a person."""

    def header(self) -> str:
        return ",".join(Poses.wide_columns(self.config.skeleton)) + "\n"

    def text(self, frame: Place, poses: Poses) -> str:
        return _csv(poses.to_wide_rows(frame.source, frame.index, frame.time))


def _csv(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


FORMATS: dict[str, Callable[[str | Path, ResultConfig], Results]] = {
    "lithepose": LithePoseFile,
    "coco": CocoFile,
    "openpose": lambda path, config: OpenPoseFolder(path, OPENPOSE_18),
    "openpose25": lambda path, config: OpenPoseFolder(path, BODY_25),
    "csv": CsvFile,
    "csv-wide": WideCsvFile,
    "parquet": lambda path, config: ParquetFile(path, config.skeleton),
    "trc": lambda path, config: TrcFolder(path),
}
FITTING = {
    "lithepose": (".jsonl", ".ndjson", ".json"),
    "coco": (".json",),
    "csv": (".csv",),
    "csv-wide": (".csv",),
    "parquet": (".parquet",),
}
FOLDERS = ("openpose", "openpose25", "trc")
"""Formats that write a folder of files."""
