"""Videos and streams -> frames, with PyAV: upright, with square pixels, deinterlaced, at increasing times."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from fractions import Fraction
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError
from av.filter import Graph

from ..errors import VideoError
from .containers import is_damaged

LOG = logging.getLogger(__name__)
SILENCE = 10.0  # seconds that a stream may take to open, or to send the next packet
RATE = 30.0  # frames per second, if a video does not state them


class Video:
    """The frames of a video file or stream, one after another.

    Args:
        path: path of the file, or address.
        name: name in errors.
        start: seconds to skip at the beginning.

    Attributes:
        rate: frames per second, as stated.
        endless: whether it is a stream without a stated end.
        seconds: duration, as stated; 0 if unknown.

    Raises:
        VideoError: it cannot be opened, or contains no video.
    """

    def __init__(self, path: str, name: str, start: float = 0.0) -> None:
        self.name, self._start = name, start
        self._file = os.path.abspath(path) if os.path.exists(path) else ""  # FFmpeg takes "12:30.mp4" for a protocol
        options = {"rtsp_transport": "tcp"} if path.lower().startswith("rtsp") else {}
        try:
            self._container: Any = av.open(
                self._file or path, metadata_errors="replace", options=options, timeout=SILENCE
            )
        except (FFmpegError, OSError, ValueError) as error:
            what = (
                "cannot be opened; check that it exists and is not in use"
                if not self._file
                else "not a video that FFmpeg can read"
            )
            raise VideoError(f"{name}: {what} ({_reason(error)})") from error
        if not self._container.streams.video:
            self._container.close()
            raise VideoError(f"{name}: contains no video")
        self._stream: Any = self._container.streams.video[0]
        self._stream.thread_type = "AUTO"
        rate = self._stream.average_rate or self._stream.guessed_rate
        self.rate = float(rate) if rate and 0 < rate <= 1000 else RATE
        self.seconds = (self._container.duration or 0) / 1e6
        self.endless = not self._file and not self._container.duration
        # MP4 and MOV list all their frames; the numbers of other containers are hints.
        self._indexed = bool(self._file) and "mp4" in self._container.format.name
        # FFmpeg takes the point where two recordings were joined as damage; `is_damaged` does not.
        self._counted = "mpegts" in self._container.format.name
        self._deinterlace: Graph | None = None
        self._corrupt, self._damaged = False, 0
        if start > 0 and not self.endless and not self._counted:  # a transport stream may seek past its key frame
            try:
                self._container.seek(int(start * 1e6) + (self._container.start_time or 0), backward=True)
            except FFmpegError:  # not seekable: frames before it are read and left out
                LOG.debug("%s: cannot seek", name)

    def __enter__(self) -> Video:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._container.close()

    @property
    def intact(self) -> bool:
        """Whether everything that was read so far could be decoded."""
        return not (self._corrupt or self._damaged)

    def __iter__(self) -> Iterator[tuple[np.ndarray, float]]:
        """(H, W, 3) uint8 RGB and seconds from the start of the video.

        Raises:
            VideoError: the file ends early or the stream breaks off, after the frames before.
        """
        try:
            yield from self._shown()
        except (FFmpegError, OSError) as error:
            raise VideoError(f"{self.name}: cannot be decoded further ({_reason(error)})") from error

    def _shown(self) -> Iterator[tuple[np.ndarray, float]]:
        origin, last, count = self._stream.start_time, -1.0, 0
        origin = float(origin * self._stream.time_base) if origin is not None else None
        for frame in self._frames():
            time = frame.time
            if time is not None:
                origin = time if origin is None else origin
                time -= origin
            if time is None or time <= last:  # raw streams have no times, and some clocks stand still
                time = last + 1 / self.rate if last >= 0 else 0.0
            last = time
            if time < self._start - 1e-6:
                continue
            count += 1
            yield self._image(frame), time
        if self._file and (self._corrupt or is_damaged(self._file, self._stream.id)):
            raise VideoError(f"{self.name}: ends early or has missing parts ({count} frames read); copy it again")
        if self._file and self._damaged and count:
            parts = "1 damaged part" if self._damaged == 1 else f"{self._damaged} damaged parts"
            raise VideoError(f"{self.name}: {parts} ({count} frames read); copy it again")
        if self._file and not count and last >= 0:
            raise VideoError(f"{self.name}: ends after {last:.1f} s, before the start at {self._start:g} s")
        if self._file and not count:
            raise VideoError(f"{self.name}: contains no frame that can be decoded; copy it again, or convert it to MP4")

    def _frames(self) -> Iterator[Any]:
        """Decoded frames; single packets that cannot be decoded are left out."""
        packets, begun, count = self._container.demux(self._stream), False, 0
        sent = got = -1  # latest time of a packet and of a frame
        while True:
            try:
                packet = next(packets)
            except StopIteration:
                break
            except (FFmpegError, OSError) as error:
                if self._file:
                    self._corrupt = True
                    break
                raise VideoError(f"{self.name}: stream was interrupted ({_reason(error)})") from error
            try:
                decoded = packet.decode()
            except FFmpegError:
                self._corrupt = self._corrupt or bool(packet.size)
                # No player shows what precedes the first frame that can be decoded.
                self._damaged += begun or packet.is_keyframe
                continue
            begun = begun or any(not frame.is_corrupt for frame in decoded)
            self._damaged += begun and any(frame.is_corrupt for frame in decoded)
            got = max([got, *(frame.pts for frame in decoded if frame.pts is not None)])
            if packet.size:
                count += 1
                sent = max(sent, -1 if packet.pts is None or packet.is_discard else packet.pts)
                self._corrupt = bool(packet.is_corrupt)  # for the last packet: whether the file is complete
                self._damaged += begun and self._corrupt and not self._counted
            for frame in decoded:
                yield from self._progressive(frame)
        # With several threads, the decoder does not report errors of the last frames.
        self._damaged += begun and (sent - got) * self._stream.time_base > Fraction(3, 4) / Fraction(self.rate)
        if self._indexed and not self._start and count < self._stream.frames:
            self._damaged += max(0, self._stream.frames - _listed(self._file))
        if self._deinterlace:
            self._deinterlace.push(None)
            yield from self._pulled()

    def _progressive(self, frame: Any) -> Iterator[Any]:
        """Deinterlaced frames. The filter for interlaced frames delays them by one frame."""
        if self._deinterlace is None:
            if not frame.interlaced_frame:
                yield frame
                return
            graph = Graph()
            source = graph.add_buffer(template=self._stream, time_base=self._stream.time_base)
            graph.link_nodes(source, graph.add("yadif", "deint=interlaced"), graph.add("buffersink")).configure()
            self._deinterlace = graph
        self._deinterlace.push(frame)
        yield from self._pulled()

    def _pulled(self) -> Iterator[Any]:
        assert self._deinterlace
        while True:
            try:
                yield self._deinterlace.pull()
            except (BlockingIOError, EOFError):
                return

    def _image(self, frame: Any) -> np.ndarray:
        plain = frame.format.name == "yuv420p" and frame.width % 2 == frame.height % 2 == 0 and frame.color_range != 2
        # OpenCV converts in a fraction of swscale's time.
        image = cv2.cvtColor(frame.to_ndarray(), cv2.COLOR_YUV2RGB_I420) if plain else frame.to_ndarray(format="rgb24")
        aspect = self._stream.sample_aspect_ratio or self._stream.codec_context.sample_aspect_ratio
        if aspect and aspect != 1 and Fraction(1, 8) < aspect < 8:  # pixels are shown square
            height, width = image.shape[:2]
            size = (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
        turns = round(frame.rotation / 90) % 4
        return np.ascontiguousarray(np.rot90(image, turns)) if turns else np.asarray(image)


def _listed(path: str) -> int:
    """Number of frames in an MP4 or MOV file, including those that a trimmed clip does not show."""
    with av.open(path, options={"ignore_editlist": "1"}) as container:
        return sum(packet.size > 0 for packet in container.demux(container.streams.video[0]))


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
