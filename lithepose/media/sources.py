"""Sources -> one iterator of frames."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from urllib.parse import quote
from urllib.request import urlopen

import cv2
import numpy as np

from ..errors import ConfigError, ImageError, VideoError
from .animation import decode_animation, frame_count
from .image import as_rgb, decode_image, looks_like_image, named_errors, read_file
from .inputs import ADDRESS, IMAGES, Input, shown
from .live import together
from .video import Video

MAX_IMAGE = 1 << 30  # bytes; a larger file with an unknown suffix is not read as an image
MAX_MISSED = 50  # frames that a camera may miss in a row before it counts as gone
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds before a stream is tried again


@dataclass(frozen=True, eq=False)
class Frame:
    """One image, from any source.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        source: path, address or camera number that it came from.
        index: number of the frame in its video or animation, from 0 for the first one read; None for an image.
        time: seconds from the start of the video; None for an image.
        rate: frames per second of the video; None for an image.
        live: whether it comes from a camera or an endless stream, where a newer frame replaces it.
        clock: when it was read, in seconds since 1970 (UTC), if it is live.
    """

    image: np.ndarray
    source: str
    index: int | None = None
    time: float | None = None
    rate: float | None = None
    live: bool = False
    clock: float | None = None

    @property
    def name(self) -> str:
        """The source, with the number of the frame if there is one."""
        return self.source if self.index is None else f"{self.source} frame {self.index}"


@dataclass(frozen=True)
class ReadConfig:
    """What to read of videos, cameras and streams.

    Attributes:
        start: seconds to skip at the start of a video.
        end: second at which to stop reading a video; 0 reads to its end.
        every: with N, use only every N-th frame.
        reconnect: seconds for which to retry an interrupted stream; 0 does not retry.
        camera_size: (width, height) to request from cameras.
    """

    start: float = 0.0
    end: float = 0.0
    every: int = 1
    reconnect: float = 30.0
    camera_size: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.start < 0 or self.end < 0 or self.reconnect < 0 or self.every < 1:
            message = f"start {self.start}, end {self.end}, reconnect {self.reconnect}: must be 0 or more"
            raise ConfigError(f"{message}; every {self.every}: must be 1 or more")
        if self.end and self.end <= self.start:
            raise ConfigError(f"end {self.end}: must be after start {self.start}")


@dataclass(frozen=True)
class Failed:
    """A source that could not be used; the other sources continue."""

    source: str
    error: Exception


def frames(inputs: Iterable[Input], config: ReadConfig | None = None) -> Iterator[Frame | Failed]:
    """All frames of the inputs of :func:`expand`, one at a time; an input that cannot be read yields :class:`Failed`.

    Files come one after another, then all cameras and streams at the same time. Their frames are dropped when a newer
    one is available.
    """
    config, items = config or ReadConfig(), list(inputs)
    live = [item for item in items if item.kind == "live"]
    for item in items if len(live) < 2 else (item for item in items if item.kind != "live"):
        yield from _frames(item, config)
    if len(live) > 1:
        readers = [_frames(item, config) for item in live]
        yield from together(readers, lambda frame: isinstance(frame, Frame) and frame.live)


def _frames(item: Input, config: ReadConfig) -> Iterator[Frame | Failed]:
    try:
        yield from _image(item, config) if item.kind == "image" else _video(item, config)
    except (OSError, ValueError, cv2.error, MemoryError) as error:
        yield Failed(item.name, error)


def frame_total(item: Input, config: ReadConfig | None = None) -> int:
    """Approximate number of frames of an input: 1 for an image; 0 if unknown, as for cameras and addresses."""
    config = config or ReadConfig()
    if item.kind == "image":
        return 1
    if item.kind == "live" or ADDRESS.match(item.source):
        return 0
    try:
        with Video(item.source, item.source) as video:
            seconds = video.seconds
            end = min(config.end or seconds, seconds)
            return max(1, round((end - config.start) * video.rate / config.every)) if seconds else 0
    except VideoError:
        return 1  # it fails later, when it is read


def _image(item: Input, config: ReadConfig) -> Iterator[Frame]:
    if ADDRESS.match(item.source):
        data, endless = _fetched(item.source)
        name = item.name
        if data is None:
            yield from _film(item, config, endless)
        else:
            yield from frames_of(data, name, config)
        return
    known = Path(item.source).suffix.lower() in IMAGES
    if not known and os.path.getsize(item.source) > MAX_IMAGE:
        yield from _video(item, config)
        return
    try:
        data = read_file(item.source)
        with named_errors(item.source):
            image = decode_image(data)
    except ImageError as error:
        if known:
            raise
        try:
            yield from _video(item, config)
        except ImageError:
            raise error from None
        return
    if frame_count(data) > 1:
        yield from _animation(item.source, data, config)
    else:
        yield Frame(image, item.source)


def frames_of(data: bytes, name: str, config: ReadConfig | None = None) -> Iterator[Frame]:
    """The frame of an encoded image, or the frames of an animation.

    Args:
        data: content of the file.
        name: name in results and errors.
        config: the part of an animation that is read.

    Raises:
        ImageError: no image, or one that is cut off.
    """
    if frame_count(data) > 1:
        yield from _animation(name, data, config or ReadConfig())
        return
    with named_errors(name):
        image = decode_image(data)
    yield Frame(image, name)


def _animation(source: str, data: bytes, config: ReadConfig) -> Iterator[Frame]:
    """The images of a GIF, PNG or WebP, as frames of a video."""
    with named_errors(source):
        images, stated = decode_animation(data), frame_count(data)
    rate = (len(images) - 1) / images[-1][1] if images[-1][1] else 10.0
    index = 0
    for image, seconds in images:
        if seconds < config.start or (config.end and seconds >= config.end):
            continue
        if index % config.every == 0:
            swapped = cv2.COLOR_BGRA2RGBA if image.shape[2] == 4 else cv2.COLOR_BGR2RGB
            yield Frame(as_rgb(cv2.cvtColor(image, swapped)), source, index, seconds, rate)
        index += 1
    if len(images) < stated:
        raise ImageError(f"{source}: ends early, after {len(images)} of {stated} images; copy it again")


def _fetched(address: str) -> tuple[bytes | None, bool]:
    """The bytes of the image at a web address, or None if it is no image; and whether it is an endless camera stream.

    Raises:
        ImageError: it cannot be fetched.
    """
    try:
        with urlopen(quote(address, safe="%/:=&?~#+!$,;'@()*[]"), timeout=30) as answer:
            kind = answer.headers.get_content_maintype()
            start = answer.read(32) if kind != "multipart" else b""
            if kind != "image" and not looks_like_image(start):
                return None, kind == "multipart"
            return start + answer.read(MAX_IMAGE), False
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None)  # urllib wraps the system's error
        why = reason if isinstance(reason, Exception) else error
        raise ImageError(f"{shown(address)}: cannot be fetched ({why})") from error


def read_address(address: str | Path) -> np.ndarray:
    """The image at a web address, (H, W, 3) uint8 RGB.

    Raises:
        ImageError: it cannot be fetched, or is no image.
    """
    data, _ = _fetched(str(address))
    if data is None:
        raise ImageError(f"{shown(str(address))}: not an image; use stream() to read videos and cameras")
    with named_errors(shown(str(address))):
        return decode_image(data)


def _video(item: Input, config: ReadConfig) -> Iterator[Frame]:
    if item.kind == "live" and not ADDRESS.match(item.source):  # a number, or a device
        yield from _camera(item.source, config)
        return
    if item.source.lower().startswith("http"):  # its content tells its kind
        yield from _image(item, config)
    else:
        yield from _film(item, config)


def _film(item: Input, config: ReadConfig, endless: bool = False) -> Iterator[Frame]:
    """Frames of a video file or a stream; an endless one is opened again when it breaks off."""
    name, index, once = item.name, 0, endless
    began, lost, pause = time.monotonic(), 0.0, FIRST_PAUSE
    while True:
        try:
            with Video(item.source, name, 0.0 if index else config.start) as video:
                endless = endless or (video.endless and bool(ADDRESS.match(item.source)))
                for image, seconds in video:
                    seconds = time.monotonic() - began if endless else seconds
                    if config.end and seconds >= config.end:
                        return
                    lost, pause = 0.0, FIRST_PAUSE
                    if index % config.every == 0:
                        yield Frame(image, name, index, seconds, video.rate, endless, time.time() if endless else None)
                    index += 1
            if not endless:
                return
            error = VideoError(f"{name}: ended after {index} frames; check the camera or server")
        except VideoError as raised:
            error = raised
        lost = lost or time.monotonic()
        if not (endless and (index or once)) or time.monotonic() + pause - lost > config.reconnect:
            raise error
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def _camera(number: str, config: ReadConfig) -> Iterator[Frame]:
    """Frames of a camera of this machine, with OpenCV."""
    capture = cv2.VideoCapture(int(number) if number.isdecimal() and not os.path.exists(number) else number)
    try:
        if not capture.isOpened():
            raise VideoError(f"{number}: camera cannot be opened; check that it is connected and not in use")
        if config.camera_size:
            capture.set(cv2.CAP_PROP_FRAME_WIDTH, config.camera_size[0])
            capture.set(cv2.CAP_PROP_FRAME_HEIGHT, config.camera_size[1])
        rate = capture.get(cv2.CAP_PROP_FPS)
        rate = rate if 0 < rate <= 1000 else 30.0
        index, missed, began = 0, 0, time.monotonic()
        while missed <= MAX_MISSED:
            ok, bgr = capture.read()
            if not ok:
                missed += 1
                continue
            missed, seconds = 0, time.monotonic() - began
            if config.end and seconds >= config.end:
                return
            if index % config.every == 0:
                yield Frame(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), number, index, seconds, rate, True, time.time())
            index += 1
    finally:
        capture.release()
    raise VideoError(f"{number}: ended after {index} frames; check that the camera is connected")
