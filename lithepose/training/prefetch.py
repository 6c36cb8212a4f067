"""Batches made by threads while the network trains on those before."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2

THREADS, AHEAD = 2, 4  # batches made at once, and those that wait


def prefetched(make: Callable[[Sequence[int]], Any], numbers: Sequence[int], share: int) -> Iterator[Any]:
    """Batches in order, each made from ``share`` of the numbers; the last one may be smaller.

    Args:
        make: numbers of samples -> a batch. Runs in threads: OpenCV and numpy release the interpreter while they work.
        numbers: of all samples.
        share: samples of a batch.
    """
    cv2.setNumThreads(1)  # the threads of the training have the cores
    parts = (numbers[first : first + share] for first in range(0, len(numbers), share))
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(make, part) for _, part in zip(range(AHEAD), parts, strict=False)]
        try:
            while waiting:
                ready = waiting.pop(0)
                for part in parts:
                    waiting.append(pool.submit(make, part))
                    break
                yield ready.result()
        finally:
            for future in waiting:
                future.cancel()
