"""Progress over all inputs of a call: the number of frames, the number done, and the time left."""

from __future__ import annotations

import os
import time
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from .console import err_console, note, tells

if TYPE_CHECKING:
    from ...media.inputs import Input
    from ...media.sources import Frame, ReadConfig

EVERY = 5.0  # seconds between two lines of progress without a terminal


class Reporter:
    """Progress over all inputs: a bar on a terminal, otherwise a line every few seconds.

    Args:
        inputs: inputs in the order in which they are read.
        read: the part of videos that is read.
    """

    def __init__(self, inputs: list[Input], read: ReadConfig | None = None) -> None:
        self._inputs, self._read = inputs, read
        self._number = {item.name: i for i, item in enumerate(inputs, 1)}
        self._before: list[float] | None = None  # frames before each input; the last is the total
        self._frames, self._began = 0, time.monotonic()
        self._next = self._began + (0.0 if err_console.is_terminal else EVERY)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[frames]} frames"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        hidden = not err_console.is_terminal or not tells()
        self._bar = Progress(*columns, console=err_console, disable=hidden, transient=True)
        self._task = self._bar.add_task("", total=None, frames=0)

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, frame: Frame) -> None:
        """Count a frame that the network has processed."""
        self._frames += 1
        at, name = self._number[frame.source], os.path.basename(frame.source)
        now = time.monotonic()
        if err_console.is_terminal:
            done, total = self._done(at, frame)
            of = f"/{total:.0f}" if total else ""
            shown, named = f"{self._frames}{of}", f"{name} {at}/{len(self._inputs)}"
            completed = done if total else None
            self._bar.update(self._task, completed=completed, total=total or None, description=named, frames=shown)
            return
        if now < self._next:
            return
        self._next = now + EVERY
        done, total = self._done(at, frame)
        rate = self._frames / (now - self._began)
        of = f" of {total:.0f}" if total else ""
        left = f", {_duration((total - done) / rate)} left" if total else ""
        place = f"input {at} of {len(self._inputs)} ({name})"
        note(f"{self._frames}{of} frames, {rate:.1f} a second, {place}{left}")

    def _done(self, at: int, frame: Frame) -> tuple[float, float]:
        """Frames that are done, including those of failed inputs, and the total; (0, 0) if unknown."""
        from ...media.sources import frame_total

        if self._before is None:  # this opens files, so a call that ends at once does not do it
            self._before = [0.0]
            for item in self._inputs:
                self._before.append(self._before[-1] + (frame_total(item, self._read) or float("nan")))
        total = self._before[-1]
        if total != total:
            return 0, 0
        begun = self._before[at - 1] + 1 + (frame.index or 0) / (self._read.every if self._read else 1)
        return min(begun, self._before[at]), total


def _duration(seconds: float) -> str:
    """``40 s``, ``12 min`` or ``3.5 h``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
