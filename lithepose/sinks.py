"""Results -> images, videos and files."""

from __future__ import annotations

import contextlib
import csv
import glob
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import av
import cv2
import numpy as np
from av.error import FFmpegError

from .frames import Frame
from .poses import CSV_COLUMNS, Poses
from .skeleton import COCO_17

FORMATS = ("lithepose", "coco", "openpose", "csv")


def _numbered(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3``, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


class VideoWriter:
    """H.264 in MP4 as browsers and phones play it.

    Frames keep their own times where they come with them, so a video of uneven rate stays as long as it was. Odd sizes
    are cropped by one pixel: H.264's 4:2:0 colour needs even ones.
    """

    CLOCK = 90000  # ticks a second

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        # FFmpeg takes what stands before a colon for a protocol, unless it is in a folder's name.
        self._container = av.open(os.path.abspath(path), "w", options={"movflags": "+faststart"})
        self._stream: Any = None
        self._last = -1

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Append (H, W, 3) uint8 RGB; all of one video have the size of the first, others are resized to it."""
        if self._stream is None:
            rate = Fraction(self.rate).limit_denominator(1001)
            self._stream = self._container.add_stream("libx264", rate=rate, options={"crf": "20", "preset": "veryfast"})
            self._stream.height, self._stream.width = (max(2, s // 2 * 2) for s in image.shape[:2])
            self._stream.pix_fmt = "yuv420p"
            self._stream.codec_context.time_base = Fraction(1, self.CLOCK)
        size = self._stream.width, self._stream.height
        if image.shape[0] - size[1] in (0, 1) and image.shape[1] - size[0] in (0, 1):
            image = np.ascontiguousarray(image[: size[1], : size[0]])
        else:
            image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        # OpenCV's conversion takes a fraction of the time of PyAV's; it picks colours where that averages four pixels.
        frame = av.VideoFrame.from_ndarray(
            np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2YUV_I420), np.uint8), format="yuv420p"
        )
        tick = round((time if time is not None else 0.0) * self.CLOCK)
        if tick <= self._last:  # no time, or a stream with a clock that stands still
            tick = self._last + max(1, round(self.CLOCK / self.rate)) if self._last >= 0 else 0
        frame.pts, frame.time_base, self._last = tick, Fraction(1, self.CLOCK), tick
        for packet in self._stream.encode(frame):
            self._container.mux(packet)

    def close(self) -> None:
        """Finish the file; without this it does not play."""
        if self._stream is not None:
            for packet in self._stream.encode():
                self._container.mux(packet)
        self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class ImageSink:
    """Drawn frames into a folder: images under their own names, videos as ``.mp4`` (without sound).

    Files of the same name from different folders are numbered.

    Args:
        folder: where to, made if need be.
        keep: the sources. They are never written over, nor through a link, and where one lies in ``folder`` nothing is
            that is there already.

    Attributes:
        failures: sources with a video that could not be finished, and why.
    """

    def __init__(self, folder: str | Path, keep: Iterable[str | Path] = ()) -> None:
        self.folder = Path(folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{self.folder}: no folder can be made here ({error.strerror}); name another") from error
        sources = [Path(path) for path in keep]
        parents = {path.parent.resolve() for path in sources} | {path.resolve().parent for path in sources}
        self._keep_all = self.folder.resolve() in parents
        self._kept = {_identity(path) for path in sources if path.exists()}
        self._used: set[str] = set()
        self._video: tuple[str, VideoWriter] | None = None
        self.failures: dict[str, str] = {}

    def write(self, frame: Frame, drawn: np.ndarray) -> Path:
        """Write one drawn frame.

        Returns:
            the file that it went to.

        Raises:
            OSError: it cannot be written: the disk is full, or the image larger than its format allows.
        """
        try:
            return self._write_image(frame, drawn) if frame.index is None else self._write_frame(frame, drawn)
        except UnwritableError as error:
            raise OSError(f"{frame.source}: drawn, but {error}") from error
        except (cv2.error, FFmpegError, OSError) as error:
            raise OSError(f"{frame.source}: drawn, but cannot be written to {self.folder} ({error})") from error

    def _write_image(self, frame: Frame, drawn: np.ndarray) -> Path:
        suffix = Path(frame.source).suffix.lower()
        path = self._free(frame.source, suffix if suffix in (".png", ".webp", ".bmp") else ".jpg")
        write_image(path, drawn)
        return path

    def _write_frame(self, frame: Frame, drawn: np.ndarray) -> Path:
        if self._video is None or self._video[0] != frame.source or frame.index == 0:
            self.close()
            self._video = frame.source, VideoWriter(self._free(frame.source, ".mp4"), frame.rate or 30.0)
        self._video[1].write(drawn, frame.time)
        return self._video[1].path

    def _free(self, source: str, suffix: str) -> Path:
        for name in _numbered(_stem(source)):
            path = self.folder / f"{name}{suffix}"
            there = path.exists() and (self._keep_all or _identity(path) in self._kept)
            # Names that differ in case alone are one file on macOS and Windows.
            if path.name.casefold() not in self._used and not there and not path.is_symlink():
                self._used.add(path.name.casefold())
                return path
        raise AssertionError("numbers do not end")

    def close(self) -> None:
        """Finish the video at hand; what goes wrong is kept in ``failures``, so that nothing else is lost by it."""
        if self._video is not None:
            (source, video), self._video = self._video, None
            try:
                video.close()
            except (FFmpegError, OSError) as error:
                self.failures[source] = f"{source}: {video.path} cannot be finished ({error})"


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _stem(source: str) -> str:
    """Name of a source's files: that of the file, ``camera-0``, or the address in words."""
    if "://" in source:
        return re.sub(r"\W+", "-", source.split("://", 1)[1]).strip("-") or "stream"
    return f"camera-{source}" if source.isdigit() else Path(source).stem or "stream"


def write_image(path: Path, image: np.ndarray) -> None:
    """Write (H, W, 3) uint8 RGB, by the suffix of ``path``.

    Raises:
        ValueError: the suffix is no image's.
        OSError: the format cannot hold it; no such folder, no room, no permission.
    """
    if not cv2.haveImageWriter(path.name):
        raise ValueError(f"{path}: cannot write this kind of image; use .jpg or .png")
    said = f"{path}: no {path.suffix} can hold a colour image of {image.shape[1]}x{image.shape[0]} pixels"
    try:
        ok, data = cv2.imencode(path.suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    except cv2.error as error:
        raise UnwritableError(f"{said}; write a .png") from error
    if not ok:
        raise UnwritableError(f"{said}; write a .png")
    with _named(path):
        path.write_bytes(data.tobytes())


class UnwritableError(OSError):
    """A file that cannot be written, with its name, why, and what to do."""


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into :class:`UnwritableError`, but for a pipe without a reader."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(
            f"{path}: cannot be written ({error.strerror or error}); make room, or write elsewhere"
        ) from error


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
            raise ValueError(f"format {format!r}; there are {', '.join(FORMATS)}")
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
                raise ValueError("openpose writes one file a frame; give a folder, not -")
            self._make(self.path)
            return
        if self._owned:
            self._make(self.path.parent)
            if self.path.is_dir():
                raise OSError(f"{self.path}: is a folder; name a file for the results")

    def _open(self) -> None:
        """At the first frame and not before: a call that gets none leaves an earlier file as it is."""
        if self._file is not None or self.format == "openpose":
            return
        if self._owned:
            # File names need not be text; surrogateescape writes their bytes as they are.
            with _named(self.path):
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
            raise OSError(f"{folder}: no folder can be made here ({error.strerror}); name another") from error

    def _write(self, text: str) -> None:
        assert self._file is not None
        with _named(self.path):
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
            with _named(path):
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
        stem = next(name for name in _numbered(_stem(frame.source)) if name.casefold() not in self._names)
        self._names.add(stem.casefold())
        if frame.index is None:
            return stem
        self._video = frame.source, stem
        for old in self.path.glob(f"{glob.escape(stem)}_{'[0-9]' * 12}_keypoints.json"):
            old.unlink()
        return f"{stem}_{frame.index:012d}"

    def close(self) -> None:
        """Finish the file."""
        if not self._owned or not self.path.exists():
            self._open()
        try:
            if self._is_list and self._file is not None:
                self._write("\n]\n" if self._begun else "[]\n")
        finally:
            if self._file is not None and self._owned:
                with _named(self.path):  # what could not be written before is tried again
                    self._file.close()
