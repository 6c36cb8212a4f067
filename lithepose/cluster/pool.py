"""Workers of a cluster, and their tasks: a bounded number at a time, repeated if a worker dies."""

from __future__ import annotations

import statistics
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..errors import LitheposeError, OutputError
from .connect import RayError, RayTaskError, ray, room
from .work import Care, Segment, Work

# Plain actors instead of Ray Data, which makes its own blocks, keeps them in its object store, and cannot tell to which
# file a repeated block belongs. Here a task is a file. Its name identifies its content, an existing file is done, and
# the driver holds only the names of the tasks in flight.

DEPTH = 2  # tasks of a worker: one running, one waiting
ERRORS, DEATHS, LATE_STARTS = 3, 8, 3
SUSPECT = 2  # deaths of a task after which its worker marks the current input
NEVER_READY = 600.0  # seconds without a ready worker after which the call fails
STAFFED = 5.0  # seconds between two counts of the machines, and after a failed start
ENDED = 5.0  # seconds for workers to remove their files
LATE = 3.0  # times the median: a task that takes longer is also given to a second worker


@dataclass(eq=False)
class Task:
    """A call of a worker.

    Attributes:
        work: work that the task belongs to.
        method: method of the worker.
        arguments: arguments after the work.
        deaths: number of workers that died during the task.
        errors: number of errors that it raised.
        leave: inputs that made workers die, with the reason.
        suspect: input that was marked when the last worker died.
        copies: number of copies that workers have now.
        done: whether a copy has ended.
    """

    work: Work
    method: str
    arguments: tuple[Any, ...] = ()
    deaths: int = 0
    errors: int = 0
    leave: dict[int, str] = field(default_factory=dict)
    suspect: int | None = None
    copies: int = 0
    done: bool = False

    @property
    def given(self) -> tuple[Any, ...]:
        """The arguments of the method."""
        if self.method == "block":
            return self.work, Care(tuple(sorted(self.leave.items())), self.deaths >= SUSPECT)
        return self.work, *self.arguments

    @property
    def segment(self) -> Segment | None:
        """The part of a video that the task is for, or None."""
        return self.arguments[0] if self.method == "segment" else None


@dataclass(frozen=True)
class Lost:
    """The result of a task that could not be done."""

    reason: str


class Pool:
    """Hands out tasks to workers.

    Args:
        tasks: tasks, read as workers become free.
        make: starts a worker.
        cpus: CPUs of each worker.
        most: largest number of workers; 0 takes as many as fit.
        marked: returns the index of the input that the worker of a work had marked, or None.
    """

    def __init__(
        self,
        tasks: Iterator[Task],
        make: Callable[[], Any],
        cpus: int,
        most: int,
        marked: Callable[[Work], int | None],
    ) -> None:
        self._tasks, self._make, self._cpus, self._most, self._marked = tasks, make, cpus, most, marked
        self._again: deque[Task] = deque()
        self._more = True
        self._starting: dict[Any, Any] = {}  # reference -> worker
        self._loads: dict[Any, int] = {}  # worker -> its tasks
        self._flying: dict[Any, tuple[Any, Task, float]] = {}  # reference -> worker, task, when it was given
        self._took: deque[float] = deque(maxlen=200)
        self._late_starts, self._wanted, self._counted = 0, 0, 0.0
        self._idle_since, self._refused = time.monotonic(), float("-inf")

    @property
    def workers(self) -> int:
        """Number of workers that are ready."""
        return len(self._loads)

    def add(self, task: Task) -> None:
        """Add a task that goes before those that are not read yet."""
        self._again.append(task)

    def results(self) -> Generator[tuple[Task, Any], None, None]:
        """Every task with its result, or :class:`Lost`, as they end.

        Raises:
            OutputError: results cannot be written, or workers do not start.
        """
        try:
            while True:
                self._staff()
                self._hand_out()
                if not self._flying and not self._again and not self._more:
                    return
                waiting = [*self._starting, *self._flying]
                if not waiting:
                    time.sleep(0.2)
                    continue
                for reference in ray.wait(waiting, num_returns=1, timeout=1.0)[0]:
                    if reference in self._starting:
                        self._started(reference)
                    else:
                        yield from self._ended(reference)
        finally:
            if ends := [worker.end.remote() for worker in self._loads]:
                ray.wait(ends, num_returns=len(ends), timeout=ENDED)
            for worker in [*self._loads, *self._starting.values()]:
                ray.kill(worker)

    def _staff(self) -> None:
        """Start workers for new machines, and for workers that died."""
        now = time.monotonic()
        if now - self._counted > STAFFED or not self._wanted:
            fits = room(self._cpus)
            self._wanted = self._most or fits
            self._counted = now
        if self._loads:
            self._idle_since = now
        elif now - self._idle_since > NEVER_READY:
            raise OutputError(
                f"no worker with {self._cpus} CPUs has started in {NEVER_READY:.0f} s; add machines or lower"
                " --cpus-per-worker"
            )
        while now - self._refused > STAFFED and len(self._loads) + len(self._starting) < self._wanted:
            worker = self._make()
            self._starting[worker.ready.remote()] = worker

    def _started(self, reference: Any) -> None:
        worker = self._starting.pop(reference)
        try:
            ray.get(reference)
        except RayError as error:
            self._late_starts, self._refused = self._late_starts + 1, time.monotonic()
            if self._late_starts >= LATE_STARTS and not self._loads:
                raise OutputError(f"workers cannot be started: {_plain(error)}") from error
            return
        self._late_starts = 0
        self._loads[worker] = 0

    def _hand_out(self) -> None:
        for load in range(DEPTH):
            for worker in [worker for worker, has in self._loads.items() if has == load]:
                task = self._next() or (self._late() if load == 0 else None)
                if task is None:
                    break
                self._loads[worker] += 1
                task.copies += 1
                reference = getattr(worker, task.method).remote(*task.given)
                self._flying[reference] = worker, task, time.monotonic()

    def _next(self) -> Task | None:
        while self._again:
            task = self._again.popleft()
            if not task.done:
                return task
        task = next(self._tasks, None) if self._more else None
        self._more = self._more and task is not None
        return task

    def _late(self) -> Task | None:
        """At the end, the task that takes longest, for a free worker; a second copy writes the same files."""
        if len(self._took) < 3 or self._again or self._more:
            return None
        usual, now = statistics.median(self._took), time.monotonic()
        late = [
            (begun, task)
            for _, task, begun in self._flying.values()
            if task.copies == 1 and task.method in ("block", "segment") and now - begun > LATE * usual
        ]
        return min(late, key=lambda pair: pair[0])[1] if late else None

    def _ended(self, reference: Any) -> Iterator[tuple[Task, Any]]:
        worker, task, begun = self._flying.pop(reference)
        task.copies -= 1
        if worker in self._loads:
            self._loads[worker] -= 1
        try:
            result = ray.get(reference)
        except RayTaskError as error:
            if task.done:  # another copy has ended
                return
            task.errors += 1
            if task.errors >= ERRORS:
                if isinstance(error.cause, OutputError):
                    raise OutputError(str(error.cause)) from error
                if task.copies:  # another copy may still end
                    return
                task.done = True
                yield task, Lost(f"failed {task.errors} times: {_plain(error)}")
                return
            self.add(task)
            return
        except RayError as error:  # the worker or its machine died
            if self._loads.pop(worker, None) is not None:
                ray.kill(worker)  # it may only be out of reach
            if not task.done and not task.copies:
                yield from self._died(task, error)
            return
        if not task.done:
            task.done = True
            self._took.append(time.monotonic() - begun)
            yield task, result

    def _died(self, task: Task, error: Exception) -> Iterator[tuple[Task, Any]]:
        task.deaths += 1
        if task.method == "block" and task.deaths > SUSPECT:
            at = self._marked(task.work)
            if at is not None and at == task.suspect:
                task.leave[at] = "the process that opened it died twice; it may need more memory, or be malicious"
                at = None
            task.suspect = at
        if task.deaths - 2 * len(task.leave) >= DEATHS:
            task.done = True
            yield task, Lost(f"{task.deaths} workers died: {_plain(error)}")
            return
        self.add(task)


def _plain(error: Exception) -> str:
    """Ray's message in one line."""
    cause = getattr(error, "cause", None)
    if isinstance(cause, LitheposeError):
        return str(cause)
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[-1] if lines else type(error).__name__)[:500]
