"""Threads that run the model on requests. Images that wait in a bounded queue are run together."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..errors import ImageError
from ..inference.estimator import Estimator
from ..media.image import decode_image
from ..poses import Poses

BATCH = 8  # images that are run together
PIXELS = 40_000_000  # largest number that one worker has decoded at once


class QueueFullError(Exception):
    """The queue of waiting requests is full."""


class ClosedError(Exception):
    """The server is shutting down."""


@dataclass(frozen=True)
class Job:
    """One image to run the model on.

    Attributes:
        data: the encoded image.
        pixels: number of pixels, as the header states.
        finish: (H, W, 3) uint8 RGB image and its people -> the answer, made in the worker's thread.
        threshold: lowest score of a joint; None for the model's own.
        estimate: function that finds the people instead of the model, for videos; such a job runs alone.
        answer: result of :attr:`finish`.
    """

    data: bytes
    pixels: int
    finish: Callable[[np.ndarray, Poses], Any]
    threshold: float | None = None
    estimate: Callable[[np.ndarray], Poses] | None = None
    answer: Future[Any] = field(default_factory=Future)


class Workers:
    """Runs jobs in threads, each with its own model; jobs of a stream bring their own function.

    Args:
        models: one for each thread.
        waiting: number of jobs that may wait.
        on_batch: called with the number of images of every batch.

    Attributes:
        streams: number of open streams.
    """

    def __init__(
        self, models: Sequence[Estimator], waiting: int = 64, on_batch: Callable[[int], None] = lambda _: None
    ) -> None:
        self.models, self._most, self._on_batch = list(models), waiting, on_batch
        self._jobs: deque[Job] = deque()
        self._changed, self._closed = threading.Condition(), True
        self._threads = list[threading.Thread]()
        self.streams = 0

    def start(self) -> None:
        """Accept jobs until :meth:`close`."""
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, args=(model,), name=f"lithepose-worker-{i}", daemon=True)
            for i, model in enumerate(self.models)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting(self) -> int:
        """Jobs that no worker has begun."""
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Queue a job; its ``answer`` gets the result or the error.

        Raises:
            QueueFullError: too many wait.
            ClosedError: before :meth:`start` and after :meth:`close`.
        """
        with self._changed:
            if self._closed:
                raise ClosedError
            if len(self._jobs) >= self._most:
                raise QueueFullError
            self._jobs.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Run the waiting jobs, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _take(self) -> list[Job]:
        """The next jobs to run together; empty after the last one."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            batch, pixels = list[Job](), 0
            while self._jobs and len(batch) < BATCH:
                job = self._jobs[0]
                first = batch[0] if batch else job
                alone = (first.estimate or job.estimate) is not None or job.threshold != first.threshold
                if batch and (alone or pixels + job.pixels > PIXELS):
                    break
                batch.append(self._jobs.popleft())
                pixels += job.pixels
            return batch

    def _work(self, model: Estimator) -> None:
        while batch := self._take():
            # Jobs that were cancelled after their time limit are left out.
            batch = [job for job in batch if job.answer.set_running_or_notify_cancel()]
            images = {}
            for job in batch:
                try:
                    images[id(job)] = _decoded(job)
                except BaseException as error:
                    job.answer.set_exception(error)
            batch = [job for job in batch if id(job) in images]
            if batch:
                self._on_batch(len(batch))
                self._run(model, batch, images)
            del batch, images  # not kept while the thread waits

    @staticmethod
    def _run(model: Estimator, batch: list[Job], images: dict[int, np.ndarray]) -> None:
        first = batch[0]
        try:
            if first.estimate is not None:
                poses = [first.estimate(images[id(first)])]
            else:
                chosen = model if first.threshold is None else model.with_config(peak=first.threshold)
                poses = chosen.estimate([images[id(job)] for job in batch])
        except BaseException as error:
            if len(batch) == 1:
                first.answer.set_exception(error)
            else:  # one of them fails: the others must not fail with it
                for job in batch:
                    Workers._run(model, [job], images)
            return
        for job, found in zip(batch, poses, strict=True):
            try:
                job.answer.set_result(job.finish(images[id(job)], found))
            except BaseException as error:
                job.answer.set_exception(error)


def _decoded(job: Job) -> np.ndarray:
    """The image of a job.

    Raises:
        ImageError: it cannot be decoded, or is larger than its header states.
    """
    image = decode_image(job.data)
    if image.shape[0] * image.shape[1] > job.pixels:
        size = f"{image.shape[1]}x{image.shape[0]}"
        raise ImageError(f"it has {size} pixels, more than its header declares; export it again")
    return image
