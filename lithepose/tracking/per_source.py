"""State that is kept from frame to frame, for each source."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from ..media.sources import Frame

State = TypeVar("State")


class PerSource(Generic[State]):
    """One state for every camera and stream that is read at the same time, and one for the current video.

    Args:
        begin: makes a new state.
    """

    def __init__(self, begin: Callable[[], State]) -> None:
        self._begin = begin
        self._live: dict[str, State] = {}
        self._video: tuple[str, State] | None = None

    def of(self, frame: Frame) -> State:
        """The state of a frame's source; a new one for the first frame of a video."""
        if frame.live:
            if frame.index == 0 or frame.source not in self._live:
                self._live[frame.source] = self._begin()
            return self._live[frame.source]
        if self._video is None or frame.index == 0 or frame.source != self._video[0]:
            self._video = frame.source, self._begin()
        return self._video[1]
