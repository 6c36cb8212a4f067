"""Sources -> one iterator of frames."""

from __future__ import annotations

import glob
import os
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from urllib.request import urlopen

import cv2
import numpy as np

from .image import UnreadableImage, decode_image, read_image

IMAGES = frozenset(
    ".jpg .jpeg .jpe .png .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif .gif"
    " .heic .heif".split()  # of iPhones: OpenCV may not read them, but they shall not be passed over in silence
)
VIDEOS = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .vob .wmv .asf .flv .3gp .ogv".split())
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a path
MAX_IMAGE = 1 << 30  # bytes; a larger file of unknown suffix is no image
MAX_MISSED = 50  # frames that a camera or stream may fail to give in a row before it counts as gone


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, from wherever.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        source: path, address or camera number that it came from.
        index: number of the frame in its video, from 0; None for an image.
        time: seconds from the start of the video; None for an image.
        rate: frames a second of the video; None for an image.
        live: whether it comes from a camera or a stream without end, and is old when the next one is there.
    """

    image: np.ndarray
    source: str
    index: int | None = None
    time: float | None = None
    rate: float | None = None
    live: bool = False

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
    """One thing to open. ``kind`` is image, video or live; ``source`` what the user called it."""

    source: str
    kind: str


def expand(sources: Sequence[str]) -> list[Input]:
    """Folders and patterns -> the files that they stand for, in natural order (2 before 10).

    What exists is a path, whatever it is called. Otherwise a number is a camera, and anything with ``://`` an address:
    of an image or video by its suffix, else of a live stream. A folder gives its images and videos, by suffix;
    subfolders and hidden files are left alone (``folder/**`` reaches the former). A file that is named outright is
    tried whatever its suffix.

    Raises:
        FileNotFoundError: a path that does not exist, a pattern or folder that holds nothing.
        OSError: a path without read permission.
    """
    found: list[Input] = []
    for source in sources:
        path = Path(source)
        try:
            exists = path.exists()
        except OSError as error:
            raise OSError(f"{source}: cannot be read ({error.strerror or error})") from error
        if exists and path.is_dir():
            try:
                found += _inside(source, (str(p) for p in path.iterdir()), "folder")
            except PermissionError as error:
                raise OSError(f"{source}: folder cannot be listed ({error.strerror})") from error
        elif exists:
            found.append(Input(source, "live" if path.is_char_device() else _kind(source)))
        elif re.fullmatch("[0-9]{1,3}", source):
            found.append(Input(source, "live"))
        elif ADDRESS.match(source):
            suffix = Path(urlsplit(source).path).suffix.lower()
            file = not source.lower().startswith(("rtsp", "rtmp", "udp")) and suffix in IMAGES | VIDEOS
            found.append(Input(source, _kind(urlsplit(source).path) if file else "live"))
        elif glob.has_magic(source):
            found += _inside(source, glob.iglob(source, recursive=True), "pattern")
        else:
            raise FileNotFoundError(
                f"{source}: no such file or folder; give an image, video, folder, pattern or camera"
            )
    return found


def _kind(name: str) -> str:
    return "video" if Path(name).suffix.lower() in VIDEOS else "image"


def _inside(source: str, paths: Iterator[str], kind: str) -> list[Input]:
    known = IMAGES | VIDEOS
    files = [p for p in paths if _plain(p) and Path(p).suffix.lower() in known and os.path.isfile(p)]
    if not files:
        deeper = f"; {source.rstrip('/')}/** includes its subfolders" if kind == "folder" else ""
        raise FileNotFoundError(
            f"{source}: {kind} without images or videos (by suffix: {' '.join(sorted(known))}){deeper}"
        )
    return [Input(p, _kind(p)) for p in sorted(files, key=_natural)]


def _plain(path: str) -> bool:
    """Not hidden, as ``._photo.jpg`` is, which macOS leaves on foreign disks and which is no image."""
    return not os.path.basename(path).startswith(".")


def _natural(name: str) -> list[tuple[int, Any]]:
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def frames(inputs: Iterable[Input]) -> Iterator[Frame | Failed]:
    """All frames of what :func:`expand` found, one at a time; what cannot be read comes as :class:`Failed` instead."""
    for item in inputs:
        try:
            yield from _image(item) if item.kind == "image" else _video(item)
        except (OSError, ValueError, cv2.error, MemoryError) as error:
            yield Failed(shown(item.source), error)


def _image(item: Input) -> Iterator[Frame]:
    if ADDRESS.match(item.source):
        try:
            with urlopen(quote(item.source, safe="%/:=&?~#+!$,;'@()*[]"), timeout=30) as answer:
                image = decode_image(answer.read(MAX_IMAGE))
        except (OSError, ValueError, HTTPException) as error:
            reason = getattr(error, "reason", None)  # urllib wraps what the system says
            why = reason if isinstance(reason, Exception) else error
            raise UnreadableImage(f"{shown(item.source)}: cannot be fetched or read ({why})") from error
        yield Frame(image, shown(item.source))
        return
    known = Path(item.source).suffix.lower() in IMAGES
    if not known and os.path.getsize(item.source) > MAX_IMAGE:
        yield from _video(item)
        return
    try:
        image = read_image(item.source)
    except UnreadableImage as error:
        if known:
            raise
        try:
            yield from _video(item)
        except UnreadableImage:
            raise error from None
        return
    yield Frame(image, item.source)


def shown(source: str) -> str:
    """A source as it may be shown and written: addresses without logins, queries and ``password=`` parts."""
    if not ADDRESS.match(source):
        return source
    scheme, rest = source.split("://", 1)
    rest = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://" + "/".join("..." if "=" in part or "&" in part else part for part in rest.split("/"))


def _located(source: str) -> str:
    """A file by its folder too: FFmpeg takes what stands before a colon, as in ``12:30.mp4``, for a protocol."""
    return os.path.abspath(source) if os.path.exists(source) else source


def _promised(path: str) -> int:
    """Frames that a video file says it has; 0 where it does not say.

    OpenCV makes up a count from the duration, which is that of the sound if it is longer.
    """
    import av
    from av.error import FFmpegError

    try:
        with av.open(_located(path), metadata_errors="replace") as container:  # titles are often in no known code
            return container.streams.video[0].frames
    except (FFmpegError, OSError, ValueError, IndexError):
        return 0


def _video(item: Input) -> Iterator[Frame]:
    live, name = item.kind == "live", shown(item.source)
    camera = re.fullmatch("[0-9]{1,3}", item.source) and live and not os.path.exists(item.source)
    capture = cv2.VideoCapture(int(item.source) if camera else _located(item.source))
    try:
        if not capture.isOpened():
            what = (
                "camera or stream cannot be opened; is it there, and free?"
                if live
                else "not a video that OpenCV can decode; copy it again, or convert it to MP4"
            )
            raise UnreadableImage(f"{name}: {what}")
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate <= 1000 else 30.0
        endless = live and capture.get(cv2.CAP_PROP_FRAME_COUNT) <= 0  # an address may be that of a film
        index, missed, seconds, began = 0, 0, 0.0, time.monotonic()
        while True:
            ok, bgr = capture.read()
            if ok:
                missed = 0
                # A file says when the frame just read is shown; cameras fill that with clocks of their own.
                seconds = time.monotonic() - began if live else capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
                yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), name, index, max(seconds, 0.0), rate, endless)
                index += 1
                continue
            missed += 1
            if not live or missed > MAX_MISSED:
                break
    finally:
        capture.release()
    if live:  # whoever wants it to end interrupts it
        raise UnreadableImage(f"{name}: gave no more frames after {index}; is the camera or server still there?")
    promised = _promised(item.source)
    # Edits may hide frames: what is cut off misses time as well.
    if index == 0 or (index < 0.98 * promised - 2 and seconds < 0.98 * promised / rate - 2 / rate):
        raise UnreadableImage(f"{name}: ends after {index} of {promised} frames; the file is cut off or damaged")
