"""Sources -> one iterator of frames; results -> pictures and videos."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from .image import UnreadableImage, read_image

PICTURES = frozenset(".jpg .jpeg .jpe .png .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif .gif".split())
VIDEOS = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .wmv .flv .3gp .ogv".split())
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
            raise FileNotFoundError(f"{source}: no such file or folder; give a picture, video, folder, pattern or camera")
    return found


def _inside(source: str, paths: Iterator[str], kind: str) -> list[Input]:
    known = PICTURES | VIDEOS
    files = [p for p in paths if Path(p).suffix.lower() in known and os.path.isfile(p)]
    if not files:
        raise FileNotFoundError(f"{source}: {kind} without pictures or videos (by suffix: {' '.join(sorted(known))})")
    return [Input(p, "video" if Path(p).suffix.lower() in VIDEOS else "picture") for p in sorted(files, key=_natural)]


def _natural(name: str) -> list[tuple[int, Any]]:
    return [(0, int(part)) if part.isdigit() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def frames(sources: Sequence[str]) -> Iterator[Frame | Failed]:
    """All frames of all sources, one at a time; what cannot be read comes as :class:`Failed` in its place.

    Raises:
        FileNotFoundError: see :func:`expand`.
    """
    for item in expand(sources):
        try:
            if item.kind == "picture":
                yield Frame(read_image(item.source), item.source)
            else:
                yield from _video(item)
        except (OSError, ValueError, cv2.error, MemoryError) as error:
            yield Failed(item.source, error)


def _video(item: Input) -> Iterator[Frame]:
    live = item.kind == "live"
    capture = cv2.VideoCapture(int(item.source) if live and item.source.isdigit() else item.source)
    try:
        if not capture.isOpened():
            what = "camera or stream cannot be opened; is it there, and free?" if live else "not a video that OpenCV can decode"
            raise UnreadableImage(f"{item.source}: {what}")
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate <= 1000 else 30.0
        promised = 0 if live else int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        index, missed = 0, 0
        while True:
            time = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            ok, bgr = capture.read()
            if ok:
                missed = 0
                yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), item.source, index, max(time, 0.0), rate)
                index += 1
                continue
            missed += 1
            if not live or missed > MAX_MISSED:
                break
    finally:
        capture.release()
    # Containers round their count; a real cut loses more than that.
    if index == 0 or index < 0.98 * promised - 2:
        raise UnreadableImage(f"{item.source}: ends after {index} of {promised} frames; the file is cut off or damaged")


class VideoWriter:
    """H.264 in MP4 as browsers and phones play it.

    Frames keep their own times where they come with them, so a video of uneven rate stays as long as it was. Odd sizes
    are cropped by one pixel: H.264's 4:2:0 colour needs even ones.
    """

    CLOCK = 90000  # ticks a second

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        self._container = av.open(str(path), "w", options={"movflags": "+faststart"})
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
        frame = av.VideoFrame.from_ndarray(image, format="rgb24")
        tick = round((time if time is not None else 0.0) * self.CLOCK)
        if tick <= self._last:  # no time, or a stream whose clock stands still
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

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


class PictureSink:
    """Drawn frames into a folder: pictures under their own names, videos as ``.mp4``.

    Files of the same name from different folders are numbered, and nothing is ever written over a source.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self._used: set[str] = set()
        self._video: tuple[str, VideoWriter] | None = None

    def write(self, frame: Frame, drawn: np.ndarray) -> Path:
        """Write one drawn frame.

        Returns:
            the file that it went to.
        """
        if frame.index is None:
            suffix = Path(frame.source).suffix.lower()
            path = self._free(frame.source, suffix if suffix in (".png", ".webp", ".bmp") else ".jpg")
            ok, data = cv2.imencode(path.suffix, cv2.cvtColor(drawn, cv2.COLOR_RGB2BGR))
            if not ok:
                raise OSError(f"{path}: OpenCV cannot write a picture of {drawn.shape[1]}x{drawn.shape[0]}")
            path.write_bytes(data.tobytes())
            return path
        if self._video is None or self._video[0] != frame.source or frame.index == 0:
            self.close()
            self._video = frame.source, VideoWriter(self._free(frame.source, ".mp4"), frame.rate or 30.0)
        self._video[1].write(drawn, frame.time)
        return self._video[1].path

    def _free(self, source: str, suffix: str) -> Path:
        stem = Path(source).stem if "://" not in source else re.sub(r"\W+", "-", source.split("://", 1)[1]).strip("-")
        stem = f"camera-{stem}" if source.isdigit() else stem or "stream"
        for number in range(1, 1 << 30):
            name = f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
            path = self.folder / name
            same = path.exists() and os.path.exists(source) and os.path.samefile(path, source)
            if name not in self._used and not same:
                self._used.add(name)
                return path
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Finish the video at hand."""
        if self._video is not None:
            video, self._video = self._video[1], None
            video.close()
