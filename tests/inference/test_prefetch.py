from __future__ import annotations

import signal
import sys
import threading
import time

import pytest

from lithepose.inference.prefetch import Behind, ahead


def wait_until(true, seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_ahead_gives_the_same_and_fetches_no_further_than_it_may():
    fetched = []

    def numbers():
        for number in range(50):
            fetched.append(number)
            yield number

    items, got = ahead(numbers(), depth=3), []
    for number in items:
        got.append(number)
        if number < 40:
            wait_until(lambda: len(fetched) >= len(got) + 3)
        time.sleep(0.001)
        assert len(fetched) <= len(got) + 4  # three that wait, one in hand
    assert got == list(range(50))


def test_an_error_comes_after_what_was_before_it():
    def numbers():
        yield 1
        yield 2
        raise OSError("gone")

    items = ahead(numbers())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(items)


def test_who_stops_early_leaves_no_thread_behind():
    closed = threading.Event()

    def numbers():
        try:
            number = 0
            while True:
                yield (number := number + 1)
        finally:
            closed.set()

    items = ahead(numbers())
    assert next(items) == 1
    items.close()
    assert closed.wait(10)
    wait_until(lambda: not any(t.name == "lithepose-ahead" for t in threading.enumerate()))


def test_old_frames_make_way_for_new_ones():
    step, taken = threading.Semaphore(0), threading.Semaphore(0)

    def camera():
        for number in range(10):
            step.acquire()
            yield number
            taken.release()

    items = ahead(camera(), stale=lambda waiting, number: True)
    step.release()
    assert next(items) == 0
    for _ in range(5):  # five more while nobody looks
        step.release()
    for _ in range(5):
        assert taken.acquire(timeout=10)
    step.release()
    assert taken.acquire(timeout=10)
    assert next(items) in (5, 6)  # the last of them, or the one that came just now
    step.release(10)
    items.close()


def test_behind_works_in_order_and_ends_with_all_done():
    done = []

    def work(number: int) -> None:
        time.sleep(0.002)
        done.append(number)

    with Behind(work, depth=2) as writer:
        for number in range(20):
            writer.put(number)
            assert number - len(done) <= 3
    assert done == list(range(20))


def run(work, numbers, error: BaseException | None = None) -> None:
    with Behind(work) as writer:
        for number in numbers:
            writer.put(number)
        if error:
            raise error


def test_behind_finishes_what_it_has_when_interrupted():
    done = []

    def work(number: int) -> None:
        time.sleep(0.01)
        done.append(number)

    with pytest.raises(KeyboardInterrupt):
        run(work, range(4), KeyboardInterrupt())
    assert done == [0, 1, 2, 3]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_an_interrupt_at_the_end_ends_the_waiting():
    release, main = threading.Event(), threading.main_thread().ident
    assert main is not None
    threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
    began, before = time.monotonic(), signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(lambda number: release.wait(20), [1])
    finally:
        signal.signal(signal.SIGINT, before)
        release.set()
    assert time.monotonic() - began < 15


def test_an_error_behind_is_raised_in_front():
    def work(number: int) -> None:
        if number == 2:
            raise BrokenPipeError("reader left")

    with pytest.raises(BrokenPipeError):
        run(work, range(100))
    with pytest.raises(BrokenPipeError):
        run(work, [2])  # and nothing after it
