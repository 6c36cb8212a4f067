"""Stops a training on a signal, at any moment and within seconds, and prints how to continue."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import Any, ClassVar, Protocol

from .console import STOPPED

GRACE = 5.0  # seconds for a step to end and be saved
AGAIN = 1.0  # seconds after which another signal ends it at once; some senders repeat a signal
NAMES = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows lacks the last


class Position(Protocol):
    """The progress of a training; see :class:`lithepose.training.trainer.Position`."""

    step: int
    saved: int
    begun: bool
    stop: bool


class Stopping:
    """Ends this process after a signal, whatever its main thread does meanwhile.

    The training is asked to save and end after its step. If it does not end within :data:`GRACE` seconds, as during
    validation, or has not begun, the process ends without saving. A checkpoint is either replaced completely or not
    changed. A second signal ends the process at once. This context manager does nothing outside the main thread.

    Args:
        again: command that continues the training.
        steps: total steps of the training.
        run: folder of the training.

    Attributes:
        position: progress of the training, once it has begun.
    """

    _running: ClassVar[Stopping | None] = None

    def __init__(self, again: str, steps: int, run: str) -> None:
        self.again, self.steps, self.run = again, steps, run
        self.position: Position | None = None
        self._signal, self._since = "", 0.0
        self._over = threading.Lock()
        self._handlers: dict[int, Any] = {}
        self._write = -1
        self._timer: threading.Timer | None = None
        self._done = False

    @staticmethod
    def _in_child() -> None:
        """Restore the default signal handlers in a forked process: its signals are not for the training."""
        running = Stopping._running
        if running is not None:
            Stopping._running = None
            running._done = True
            signal.set_wakeup_fd(-1)
            for number in running._handlers:
                signal.signal(number, signal.SIG_DFL)
            os.close(running._write)

    def __enter__(self) -> Stopping:
        if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
            return self  # Windows has only Ctrl-C
        read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in (getattr(signal, name) for name in NAMES if hasattr(signal, name)):
            if signal.getsignal(number) != signal.SIG_IGN:  # an ignored signal stays ignored, as with nohup
                # Python's handlers wait for the main thread; the pipe gets the number at once.
                self._handlers[number] = signal.signal(number, lambda *_: None)
        threading.Thread(target=self._watch, args=(read,), daemon=True).start()
        Stopping._running = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._write < 0:
            if kind is KeyboardInterrupt:
                print(self._said(), file=sys.stderr)
            return
        if kind is not None:
            time.sleep(0.2)  # a signal that ended a child process may reach this process soon
            if self._signal or issubclass(kind, KeyboardInterrupt):
                self._end()
        # The training has ended in time, but the process may continue, for example if it called main. A signal that
        # ended a process of the loader, which shares the pipe, must not end it.
        self._done = True
        Stopping._running = None
        if self._timer is not None:
            self._timer.cancel()
        signal.set_wakeup_fd(self._before)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.set_blocking(self._write, True)
        os.write(self._write, b"\0")  # ends the thread
        os.close(self._write)

    def _watch(self, read: int) -> None:
        while True:
            number = os.read(read, 1)[0]
            if not number:
                os.close(read)
                return
            if self._done or number not in self._handlers:  # from a child process that ended
                continue
            now = time.monotonic()
            if self._signal and now - self._since > AGAIN:
                self._end()
            if not self._signal:
                self._signal, self._since = signal.Signals(number).name, now
                position, alone = self.position, os.environ.get("WORLD_SIZE", "1") == "1"
                if position is None or not position.begun or not alone:
                    self._end()
                else:
                    position.stop = True
                self._timer = threading.Timer(GRACE, self._end)
                self._timer.daemon = True
                self._timer.start()

    def _end(self) -> None:
        """Print where the training stopped, and end the process."""
        if self._done:
            return
        self._over.acquire()  # a second thread waits here for the end
        if os.environ.get("RANK", "0") == "0":
            terminal = "\x1b[?25h\n" if sys.stderr.isatty() else ""  # a progress bar hides the cursor
            os.write(2, f"{terminal}{self._said()}\n".encode())
        for child in multiprocessing.active_children():
            child.kill()
        os._exit(STOPPED)

    def _said(self) -> str:
        by = f"stopped by {self._signal or 'SIGINT'}"
        position, go_on = self.position, f"to continue, run: {self.again}"
        if position is None or not position.begun:
            return f"lithepose train: {by} before any step was done; {go_on}"
        kept = (
            f"step {position.saved} is saved in {self.run}" if position.saved else f"nothing is saved in {self.run} yet"
        )
        return f"lithepose train: {by} at step {position.step} of {self.steps}; {kept}; {go_on}"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Stopping._in_child)
