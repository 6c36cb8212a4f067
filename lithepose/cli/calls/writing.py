"""The output of `lithepose predict`: draws and writes every frame, reports progress and failures."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING

from .console import OK, SOME_FAILED, STOPPED, VERBOSE, counted, err_console, note
from .progress import Reporter

if TYPE_CHECKING:
    from ...drawing import DrawStyle
    from ...inference.estimator import Pending
    from ...media.inputs import Input
    from ...media.sources import Failed, ReadConfig
    from ...writers.images import ImageSink
    from ...writers.results import Results
    from ...writers.window import Window


def write_all(
    results: Generator[Pending | Failed, None, None],
    inputs: list[Input],
    images: ImageSink | None,
    open_file: Callable[[], Results],
    json: Path,
    failures: dict[str, str],
    style: DrawStyle,
    read: ReadConfig | None = None,
    window: Window | None = None,
) -> int:
    """Draw and write every frame in a thread after the network, then report what was done and what failed.

    Args:
        results: results of the estimator.
        inputs: inputs of the results.
        images: where drawn images go; None draws nothing.
        open_file: opens the file of results.
        json: its path, for messages.
        failures: sources that failed before, and why; those that fail now are added.
        style: style of the drawn images.
        read: the part of videos that is read, to estimate the time left.
        window: window that shows the drawn images; closing it ends the call like an interrupt.

    Returns:
        exit code.
    """
    from ...drawing import Drawer
    from ...inference.prefetch import Behind
    from ...media.sources import Failed
    from ...tracking.per_source import PerSource
    from ...writers.results import abandon

    began, count, people, stopped, unwritten = time.perf_counter(), 0, 0, False, dict[str, str]()
    out = images.folder if images else None
    reporter, drawers = Reporter(inputs, read), PerSource(lambda: Drawer(style))

    def write(pending: Pending) -> None:
        nonlocal count, people
        result = pending.done()
        frame, poses = result.frame, result.poses
        count, people = count + 1, people + len(poses)
        note(f"{frame.name}: {counted(len(poses), 'person', 'people')}", VERBOSE)
        try:
            if window or (images and frame.source not in unwritten):
                drawn = drawers.of(frame)(frame.image, poses, frame.time, copy=False)
                if window:
                    window.put(drawn)
                if images and frame.source not in unwritten:
                    images.write(frame, drawn)
        except OSError as error:
            unwritten.setdefault(frame.source, str(error))
        try:  # after the image: a call with --resume treats what is in the file as done
            file.write(frame, poses)
        except BrokenPipeError:
            if not stopped:  # an interrupt ends the reader of a pipe too
                raise
        except OSError as error:
            unwritten.setdefault(frame.source, str(error))

    def finish(kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and not issubclass(kind, KeyboardInterrupt):
            abandon(file)
            return
        try:
            file.close()
        except BrokenPipeError:
            raise
        except OSError as error:  # still report the drawn images and the failures
            unwritten.setdefault(str(json), str(error))

    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(_Interrupts())
        file = open_file()
        stack.push(finish)
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
        except KeyboardInterrupt:  # the usual way to end a camera; what was written is complete
            stopped = True
    if window and not stopped:
        window.wait()
    failures = unwritten | (images.failures if images else {}) | failures
    for source, error in failures.items():
        err_console.print(
            error if source in error else f"{source}: {error}", style="red", markup=False, highlight=False
        )
    where = " and ".join(str(p) for p in ([out] if out else []) + ([json] if str(json) != "-" else []))
    note(
        f"{counted(count, 'frame', 'frames')}, {counted(people, 'person', 'people')},"
        f" {len(failures)} failed, {time.perf_counter() - began:.1f} s"
        + (f" -> {where}" if where and count else "")
        + (" (interrupted)" if stopped else "")
    )
    return STOPPED if stopped and not all(i.kind == "live" for i in inputs) else SOME_FAILED if failures else OK


class _Interrupts:
    """Raises KeyboardInterrupt for the first SIGINT or SIGTERM, and ignores the next one while videos are closed.

    A video that is not closed does not play. This context manager restores the handlers at its end, and does nothing
    outside the main thread.

    Attributes:
        finishing: all frames are done, so the first interrupt is ignored too.
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
