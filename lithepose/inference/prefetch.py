"""Reading, inference and writing at the same time: threads with bounded queues before and after the network."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")

DEPTH = 2  # waiting items before and after; more are not faster and use more memory


def ahead(
    items: Iterator[T], depth: int = DEPTH, stale: Callable[[T, T], bool] = lambda waiting, item: False
) -> Generator[T, None, None]:
    """The same items, fetched in a thread while earlier ones are processed.

    Args:
        items: items to fetch; a generator is closed when this iterator is closed or ends.
        depth: largest number of items fetched ahead.
        stale: whether a waiting item is dropped for a new one, as for frames of a camera.

    Raises:
        BaseException: raised by ``items``, after the earlier items.
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
        thread.join(timeout=1.0)  # a camera without frames may block it for longer


class Behind(Generic[T]):
    """Calls a function on one item after another in a thread, while the next items are made.

    When this context manager ends, all items have been processed. This also holds after an interrupt, unless a second
    one comes meanwhile.

    Args:
        work: called with every item, in order.
        depth: largest number of waiting items; then :meth:`put` waits.
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
                self._waiting.popleft()  # only now: a waiting put() counts it until it is done
                self._changed.notify_all()

    def put(self, item: T) -> None:
        """Pass an item to the thread.

        Raises:
            BaseException: raised by the work on an earlier item; later items are not processed.
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
