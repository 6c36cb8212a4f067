"""Results -> images, videos and files."""

from __future__ import annotations

import csv
import glob
import io
import json
from pathlib import Path
from typing import IO

from ..errors import ConfigError, OutputError
from ..poses import CSV_COLUMNS, Poses
from ..skeleton import COCO_17
from ..sources import Frame
from .overwrite import named, numbered, stem

FORMATS = ("lithepose", "coco", "openpose", "csv")


class ResultFile:
    """Results of many frames into one file, written as they come, so that neither memory nor a kill loses them.

    Formats:
        lithepose: one json line a frame: ``source``, ``frame``, ``time`` and :meth:`Poses.to_dict`; or one json list of
            them, if the file is called ``.json``.
        coco: one json list of COCO keypoint results. ``image_id`` is the file's name where that is a number (as COCO's
            are), otherwise the running number of the frame, moved on if taken; ``file_name`` says which it was, and
            ``keypoint_names`` the order of the joints.
        openpose: a folder of one ``NAME_keypoints.json`` an image, ``NAME_000000000012_keypoints.json`` a video frame.
        csv: one row a person and joint.

    Args:
        path: file to write (openpose: folder), or ``-`` for standard output.
        format: one of the above.
        output: standard output, for ``-``.
    """

    def __init__(self, path: str | Path, format: str = "lithepose", output: IO[str] | None = None) -> None:
        if format not in FORMATS:
            raise ConfigError(f"format {format!r}; there are {', '.join(FORMATS)}")
        self.path, self.format = Path(path), format
        self._count = self._counted = self._last_frame = 0
        self._file: IO[str] | None = None
        self._output = output
        self._owned = str(path) != "-"
        self._names: set[str] = set()
        self._ids: set[int] = set()
        self._video = "", ""  # source of the video at hand and the name of its files
        self._begun = False
        self._is_list = format == "coco" or (format == "lithepose" and self.path.suffix.lower() == ".json")
        if format == "openpose":
            if not self._owned:
                raise ConfigError("openpose writes one file a frame; give a folder, not -")
            self._make(self.path)
            return
        if self._owned:
            self._make(self.path.parent)
            if self.path.is_dir():
                raise OutputError(f"{self.path}: is a folder; name a file for the results")

    def _open(self) -> None:
        """At the first frame and not before: a call that gets none leaves an earlier file as it is."""
        if self._file is not None or self.format == "openpose":
            return
        if self._owned:
            # File names need not be text; surrogateescape writes their bytes as they are.
            with named(self.path):
                self._file = self.path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
        else:
            self._file = self._output
            if isinstance(self._file, io.TextIOWrapper):  # a pipe on Windows is not utf-8 by itself
                self._file.reconfigure(encoding="utf-8", errors="surrogateescape")
        if self.format == "csv":
            self._write(",".join(CSV_COLUMNS) + "\n")

    @staticmethod
    def _make(folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"{folder}: no folder can be made here ({error.strerror}); name another") from error

    def _write(self, text: str) -> None:
        assert self._file is not None
        with named(self.path):
            self._file.write(text)
            self._file.flush()

    def _append(self, item: str) -> None:
        """One item of a json list."""
        begun, self._begun = self._begun, True  # what cannot be written now is written with the next
        self._write((",\n" if begun else "[\n") + item)

    def write(self, frame: Frame, poses: Poses) -> None:
        """Append the result of one frame."""
        self._open()
        self._count += 1
        if self.format == "lithepose":
            place = {"source": frame.source, "frame": frame.index, "time": frame.time and round(frame.time, 4)}
            line = json.dumps(place | poses.to_dict(), separators=(",", ":"))
            if self._is_list:
                self._append(line)
            else:
                self._write(line + "\n")
        elif self.format == "csv":
            rows = io.StringIO()
            csv.writer(rows, lineterminator="\n").writerows(poses.to_rows(frame.source, frame.index, frame.time))
            self._write(rows.getvalue())
        elif self.format == "coco":
            image_id = self._image_id(frame)
            more = {"file_name": frame.name, "keypoint_names": COCO_17.joints}
            for result in poses.to_coco(image_id):
                self._append(json.dumps(result | more))
        else:
            name = self._openpose_name(frame)
            path = self.path / f"{name}_keypoints.json"
            with named(path):
                path.write_text(json.dumps(poses.to_openpose()), encoding="utf-8")

    def _image_id(self, frame: Frame) -> int:
        """COCO's number of an image, which its file is called by; otherwise ours."""
        stem = Path(frame.source).stem
        own = frame.index is None and stem.isascii() and stem.isdigit()
        image_id = int(stem) if own else max(self._counted + 1, self._count)
        while image_id in self._ids or (own and image_id <= self._last_frame):
            image_id += 1
        if frame.index is None:
            self._ids.add(image_id)
        else:  # a camera's would fill the memory; they only rise
            self._last_frame = image_id
        self._counted = self._counted if own else image_id
        return image_id

    def _openpose_name(self, frame: Frame) -> str:
        """``NAME`` of an image, ``NAME_000000000012`` of a video's frame; the files of an earlier run make way."""
        if frame.index is not None and frame.index > 0 and self._video[0] == frame.source:
            return f"{self._video[1]}_{frame.index:012d}"
        own = next(name for name in numbered(stem(frame.source)) if name.casefold() not in self._names)
        self._names.add(own.casefold())
        if frame.index is None:
            return own
        self._video = frame.source, own
        for old in self.path.glob(f"{glob.escape(own)}_{'[0-9]' * 12}_keypoints.json"):
            old.unlink()
        return f"{own}_{frame.index:012d}"

    def close(self) -> None:
        """Finish the file."""
        if not self._owned or not self.path.exists():
            self._open()
        try:
            if self._is_list and self._file is not None:
                self._write("\n]\n" if self._begun else "[]\n")
        finally:
            if self._file is not None and self._owned:
                with named(self.path):  # what could not be written before is tried again
                    self._file.close()
