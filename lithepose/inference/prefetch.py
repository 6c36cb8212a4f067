"""Reading, inference and writing at the same time: bounded threads before and behind the network."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DEPTH = 2  # items waiting, each way; more do not make it faster and fill the memory


def ahead(
    items: Iterator[T], depth: int = DEPTH, stale: Callable[[T, T], bool] = lambda waiting, item: False
) -> Generator[T, None, None]:
    """The same items, fetched in a thread while the ones before are worked on.

    Args:
        items: closed, if it is a generator, when this iterator is or ends.
        depth: items fetched ahead at most.
        stale: whether an item that waits is dropped for the one that has come, as a frame of a camera should be.

    Raises:
        BaseException: what ``items`` raised, after the items before it.
    """
    waiting: deque[T] = deque()
    changed, state = threading.Condition(), {"ended": False, "stopped": False}
    error: list[BaseException] = []

    def fetch() -> None:
        try:
            for item in items:
                with changed:
                    kept = [old for old in waiting if not stale(old, item)]
                    waiting.clear()
                    waiting.extend(kept)
                    changed.wait_for(lambda: len(waiting) < depth or state["stopped"])
                    if state["stopped"]:
                        break
                    waiting.append(item)
                    changed.notify_all()
        except BaseException as raised:
            error.append(raised)
        finally:
            with contextlib.suppress(Exception):
                getattr(items, "close", lambda: None)()
            with changed:
                state["ended"] = True
                changed.notify_all()

    thread = threading.Thread(target=fetch, name="lithepose-ahead", daemon=True)
    thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: waiting or state["ended"])
                if not waiting:
                    break
                item = waiting.popleft()
                changed.notify_all()
            yield item
        if error:
            raise error[0]
    finally:
        with changed:
            state["stopped"] = True
            changed.notify_all()
        thread.join(timeout=1.0)  # a camera that gives nothing may hold it for longer


class Behind(Generic[T]):
    """Calls a function with one item after another in a thread, while the next ones are made.

    A context manager: at its end all items given have been dealt with, also where it ends by an interrupt, unless
    another one comes meanwhile.

    Args:
        work: called with every item, in their order.
        depth: items waiting at most; then :meth:`put` waits.
    """

    def __init__(self, work: Callable[[T], Any], depth: int = DEPTH) -> None:
        self._work, self._depth = work, depth
        self._waiting: deque[T] = deque()
        self._changed, self._ended = threading.Condition(), False
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="lithepose-behind", daemon=True)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._ended)
                if not self._waiting:
                    return
                item = self._waiting[0]
            try:
                self._work(item)
            except BaseException as error:
                with self._changed:
                    self._error = error
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._waiting.popleft()  # only now: who waits for room counts it
                self._changed.notify_all()

    def put(self, item: T) -> None:
        """Leave an item to the thread.

        Raises:
            BaseException: what the work on an earlier one raised; no further ones are dealt with.
        """
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < self._depth or self._error)
            if self._error:
                raise self._error
            self._waiting.append(item)
            self._changed.notify_all()

    def __enter__(self) -> Behind[T]:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        self._thread.join()  # an interrupt ends the waiting; the thread does not keep the process alive
        if self._error and error is None:
            raise self._error
