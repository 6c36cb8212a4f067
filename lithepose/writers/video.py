"""Writes drawn frames into videos."""

from __future__ import annotations

import os
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np


class VideoWriter:
    """Writes H.264 in MP4, as browsers and phones play it.

    Frames keep their own times if they have them, so a video with an uneven rate keeps its length. Odd sizes are
    cropped by one pixel: H.264's 4:2:0 colour needs even sizes.
    """

    CLOCK = 90000  # ticks a second

    def __init__(self, path: str | Path, rate: float) -> None:
        self.path = Path(path)
        self.rate = rate
        # FFmpeg takes the text before a colon as a protocol, unless it is in a folder's name.
        self._container = av.open(os.path.abspath(path), "w", options={"movflags": "+faststart"})
        self._stream: Any = None
        self._last = -1

    def write(self, image: np.ndarray, time: float | None = None) -> None:
        """Append an (H, W, 3) uint8 RGB frame; later frames are resized to the size of the first one."""
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
        # OpenCV converts in a fraction of PyAV's time; it picks the colour of one pixel where PyAV averages four.
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
        try:
            if self._stream is not None:
                for packet in self._stream.encode():
                    self._container.mux(packet)
        finally:
            self._container.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
