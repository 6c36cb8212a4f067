"""Several cameras and streams at once."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def together(readers: Sequence[Iterator[T]], live: Callable[[T], bool]) -> Iterator[T]:
    """The items of several readers as they come. Each reader has its own thread, so that none blocks the others.

    Args:
        readers: readers of one source each; closed at the end.
        live: whether a waiting item is replaced by the next one of its reader. All other items are kept.

    Raises:
        BaseException: raised by a reader, after the items that were waiting.
    """
    changed, stopped = threading.Condition(), threading.Event()
    newest: dict[int, T] = {}  # in the order in which they will be taken
    reading, errors = set(range(len(readers))), list[BaseException]()

    def read(number: int) -> None:
        reader = readers[number]
        try:
            for item in reader:
                with changed:
                    waiting = newest.get(number)
                    if waiting is None or not (live(item) and live(waiting)):
                        changed.wait_for(lambda: number not in newest or stopped.is_set())
                    if stopped.is_set():
                        break
                    newest[number] = item
                    changed.notify_all()
        except BaseException as error:
            errors.append(error)
        finally:
            with contextlib.suppress(Exception):
                getattr(reader, "close", lambda: None)()
            with changed:
                reading.discard(number)
                changed.notify_all()

    threads = [threading.Thread(target=read, args=(i,), name="lithepose-live", daemon=True) for i in reading]
    for thread in threads:
        thread.start()
    try:
        while True:
            with changed:
                changed.wait_for(lambda: newest or errors or not reading)
                if errors and not newest:
                    raise errors[0]
                if not newest:
                    return
                item = newest.pop(next(iter(newest)))
                changed.notify_all()
            yield item
    finally:
        with changed:
            stopped.set()
            changed.notify_all()
        for thread in threads:
            thread.join(timeout=1.0)  # a camera without frames may block it for longer
