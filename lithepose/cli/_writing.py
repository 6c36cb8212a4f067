"""What `lithepose predict` does after the network: draws and writes every frame, reports progress and failures."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ._console import OK, SOME_FAILED, STOPPED, counted, err_console

if TYPE_CHECKING:
    from ..drawing import DrawStyle
    from ..inference.estimator import Pending
    from ..media.sources import Failed, Frame, Input
    from ..writers.images import ImageSink
    from ..writers.results import Results
    from ..writers.window import Window

EVERY = 5.0  # seconds between two lines of progress where there is no terminal


class Reporter:
    """Progress over all inputs: a bar on a terminal, otherwise a line every few seconds.

    Args:
        inputs: in the order in which they are read.
    """

    def __init__(self, inputs: list[Input]) -> None:
        from ..media.sources import shown

        self._number = {shown(item.source): i for i, item in enumerate(inputs, 1)}
        self._total = len(inputs)
        self._known = bool(inputs) and all(item.kind == "image" for item in inputs)
        self._frames, self._began = 0, time.monotonic()
        self._next = self._began + EVERY
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[frames]} frames"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=err_console, disable=not err_console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=self._total if self._known else None, frames=0)

    def __enter__(self) -> Reporter:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def advance(self, frame: Frame) -> None:
        """One more frame is through the network."""
        self._frames += 1
        at = self._number[frame.source]
        name = os.path.basename(frame.source)
        state = {"frames": self._frames, "description": f"{name} {at}/{self._total}"}
        self._bar.update(self._task, completed=at if self._known else None, **state)
        now = time.monotonic()
        if err_console.is_terminal or now < self._next:
            return
        self._next = now + EVERY
        rate = self._frames / (now - self._began)
        left = f", {(self._total - at) / rate:.0f} s left" if self._known else ""
        err_console.print(
            f"{self._frames} frames, {rate:.1f} a second, input {at} of {self._total} ({name}){left}",
            markup=False,
            highlight=False,
        )


def write_all(
    results: Generator[Pending | Failed, None, None],
    inputs: list[Input],
    images: ImageSink | None,
    open_file: Callable[[], Results],
    json: Path,
    failures: dict[str, str],
    style: DrawStyle,
    window: Window | None = None,
) -> int:
    """Draw and write every frame in a thread behind the network, then say what was done and what failed.

    Args:
        results: of the estimator.
        inputs: that they are of.
        images: where drawn images go; None draws nothing.
        open_file: opens the file of results.
        json: its path, for messages.
        failures: sources that failed before, and why; those that fail now are added.
        style: of the drawn images.
        window: that shows them; closing it ends the call as an interrupt does.

    Returns:
        exit code.
    """
    from ..drawing import Drawer
    from ..inference.prefetch import Behind
    from ..media.sources import Failed
    from ..tracking.per_source import PerSource

    began, count, people, stopped, unwritten = time.perf_counter(), 0, 0, False, dict[str, str]()
    out = images.folder if images else None
    reporter, drawers = Reporter(inputs), PerSource(lambda: Drawer(style))

    def write(pending: Pending) -> None:
        nonlocal count, people
        result = pending.done()
        frame, poses = result.frame, result.poses
        count, people = count + 1, people + len(poses)
        try:
            if window or (images and frame.source not in unwritten):
                drawn = drawers.of(frame)(frame.image, poses, frame.time, copy=False)
                if window:
                    window.put(drawn)
                if images and frame.source not in unwritten:
                    images.write(frame, drawn)
        except OSError as error:
            unwritten.setdefault(frame.source, str(error))
        try:  # after the image: a call that goes on with an interrupted one takes what is in the file for done
            file.write(frame, poses)
        except BrokenPipeError:
            if not stopped:  # an interrupt ends the reader of a pipe too
                raise
        except OSError as error:
            unwritten.setdefault(frame.source, str(error))

    def close() -> None:
        try:
            file.close()
        except BrokenPipeError:
            raise
        except OSError as error:  # still report the drawn images and the failures
            unwritten.setdefault(str(json), str(error))

    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(_Interrupts())
        file = open_file()
        stack.callback(close)
        if images:
            stack.callback(images.close)
        try:
            stack.enter_context(reporter)
            writer = stack.enter_context(Behind(write))
            stack.enter_context(contextlib.closing(results))
            for item in results:
                if window and not window.refresh():
                    raise KeyboardInterrupt
                if isinstance(item, Failed):
                    failures[item.source] = str(item.error)
                    continue
                reporter.advance(item.frame)
                writer.put(item)
            interrupts.finishing = True
        except KeyboardInterrupt:  # how a camera is ended; what was written is whole
            stopped = True
    if window and not stopped:
        window.wait()
    failures = unwritten | (images.failures if images else {}) | failures
    for source, error in failures.items():
        err_console.print(
            error if source in error else f"{source}: {error}", style="red", markup=False, highlight=False
        )
    where = " and ".join(str(p) for p in ([out] if out else []) + ([json] if str(json) != "-" else []))
    err_console.print(
        f"{counted(count, 'frame', 'frames')}, {counted(people, 'person', 'people')},"
        f" {len(failures)} failed, {time.perf_counter() - began:.1f} s"
        + (f" -> {where}" if where and count else "")
        + (" (interrupted)" if stopped else ""),
        markup=False,
        highlight=False,
    )
    return STOPPED if stopped and not all(i.kind == "live" for i in inputs) else SOME_FAILED if failures else OK


class _Interrupts:
    """Raises KeyboardInterrupt once for SIGINT and SIGTERM; one more is ignored, since closing a video takes a moment.

    Without that moment the video does not play. A context manager, which restores the handlers at its end; it does
    nothing outside the main thread.

    Attributes:
        finishing: all frames are dealt with: ignore the first interrupt too.
    """

    def __init__(self) -> None:
        self.finishing, self._ignored = False, False
        in_main = threading.current_thread() is threading.main_thread()
        self._before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} if in_main else {}

    def __enter__(self) -> _Interrupts:
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        if self.finishing and not self._ignored:
            self._ignored = True
            return
        self.finishing = True
        raise KeyboardInterrupt
