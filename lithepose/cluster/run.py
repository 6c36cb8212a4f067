"""A call on a cluster: it plans, processes and counts what is missing."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MissingExtraError, OutputError
from ..media.inputs import shown
from .config import Machines, Options
from .sources import works
from .work import WHOLE, Done, Segment, Work

if TYPE_CHECKING:
    from .pool import Pool, Task
    from .storage import Store

CALL = "call.json"


@dataclass(frozen=True)
class Progress:
    """The progress of a call.

    Attributes:
        done: files of rows that exist.
        total: files of rows in the end.
        frames: images and frames done in this call.
        people: people found in this call.
        failed: failed inputs of this call.
        workers: number of workers that are ready.
        seconds: seconds since the start of this call.
    """

    done: int
    total: int
    frames: int = 0
    people: int = 0
    failed: int = 0
    workers: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Summary:
    """What a call has done.

    Attributes:
        frames: images and frames.
        people: rows with a person.
        files: files of rows that were written.
        before: files of rows that existed before.
        failed: inputs in the table of failures, those of earlier calls too.
        seconds: duration of the call.
    """

    frames: int
    people: int
    files: int
    before: int
    failed: int
    seconds: float


def predict(
    sources: Sequence[str],
    out: str,
    options: Options | None = None,
    machines: Machines | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Find the people of any number of images and videos, and write rows under OUT.

    A second call with the same arguments processes what is missing. Every file of rows is complete or does not exist.

    Args:
        sources: folders, patterns, images, videos, tar files (WebDataset), Parquet files with encoded images, text
            lists of these; paths that all machines can read, or addresses that fsspec opens.
        out: folder or address. ``poses/part=*/*.parquet`` has the rows, ``failed/part=*/*.jsonl`` the failed
            inputs.
        options: what the rows depend on.
        machines: where the work is done.
        on_progress: called as tasks end.

    Returns:
        counts; failed inputs are not an error.

    Raises:
        MissingExtraError: ray, pyarrow or fsspec is not installed.
        ConfigError: options or sources other than those of existing results.
        MissingFileError: a source does not exist.
        OutputError: results cannot be written, or workers do not start.
    """
    began, options, machines = time.monotonic(), options or Options(), machines or Machines()
    try:
        import fsspec  # noqa: F401
        import pyarrow  # noqa: F401

        from .connect import cluster
        from .pool import Lost, Pool, Task
        from .storage import Store
        from .worker import open_model
    except ImportError as error:
        name = (error.name or "a package").split(".")[0]
        raise MissingExtraError(f"a cluster needs {name}: pip install 'lithepose[cluster]' ({error})") from error
    open_model(options, machines.cpus)  # a call that is not possible ends here
    store = Store(out)
    there = _files_there(store, options, out)
    total = _check(works(sources, options.block), there, out)
    if store.read_text(CALL) is None:
        store.write_text(CALL, json.dumps(options.saved(), indent=1) + "\n")
    if machines.retry_failed:
        for name in store.names("failed", ".jsonl"):
            there.pop(_number(name), None)
    before = len(there)
    counts, files = Done(), before

    def report(pool: Pool | None = None) -> None:
        if on_progress:
            workers, seconds = pool.workers if pool else 0, time.monotonic() - began
            on_progress(Progress(files, total, counts.frames, counts.people, counts.failed, workers, seconds))

    report()
    if before < total:
        with cluster(machines.address, machines.cpus):
            _check_room(machines)
            todo = (_first(Task, work) for work in works(sources, options.block) if work.number not in there)
            make = _maker(options, store, out, machines)
            pool = Pool(todo, make, machines.cpus, machines.workers, lambda work: _marked(store, work))
            videos = Videos(pool)
            with closing(pool.results()) as results:
                for task, result in results:
                    if isinstance(result, Lost):
                        store.write_lines(f"failed/{task.work.name}.jsonl", _given_up(task.work, result.reason))
                    elif isinstance(result, Done):
                        files += 1
                        counts += result
                        if task.method == "join":  # done here, since it must not be done twice
                            store.remove(f"segments/{task.work.name}")
                    else:
                        videos.go_on(task, result)
                    report(pool)
        if files == total:
            store.remove("segments")
    with suppress(OutputError):  # a worker that was killed may still write
        store.remove("tmp")
    failed = _failures(store)
    return Summary(counts.frames, counts.people, files - before, before, failed, time.monotonic() - began)


def _files_there(store: Store, options: Options, out: str) -> dict[int, str]:
    """Names of the existing files of rows, by number.

    Raises:
        ConfigError: OUT is a file, or contains results of other options or of something else.
    """
    if os.path.isfile(out):
        raise ConfigError(f"--out {out}: is a file; choose a folder")
    text = store.read_text(CALL)
    if text is None:
        if next(store.names("poses", ".parquet"), None):
            raise ConfigError(f"{out}: contains results without {CALL}; choose another --out")
        return {}
    try:
        before = dict(json.loads(text))
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{out}/{CALL}: not the JSON of an earlier call ({error}); choose another --out") from error
    options.check(before, out)
    return {_number(name): name for name in store.names("poses", ".parquet")}


def _number(name: str) -> int:
    number = name.rpartition("/")[2].partition("-")[0]
    if not number.isdecimal():
        raise ConfigError(f"{name}: not a file of lithepose cluster; remove it, or choose another --out")
    return int(number)


def _check(plan: Iterator[Work], there: dict[int, str], out: str) -> int:
    """The final number of files of rows.

    Raises:
        ConfigError: existing files are of other sources.
    """
    total = same = 0
    for work in plan:
        total += 1
        if (name := there.get(work.number)) is not None:
            same += 1
            if name != work.name:
                sources = shown(work.sources[0]) + (f" and {len(work.sources) - 1} more" if work.sources[1:] else "")
                raise ConfigError(
                    f"{out}: contains results of other sources: file {name} does not belong to {sources}; choose"
                    " another --out for new sources, and join the results with `lithepose merge`"
                )
    if same < len(there):
        raise ConfigError(
            f"{out}: contains results of more sources than were passed; pass all of them, or choose another --out"
        )
    return total


def _check_room(machines: Machines) -> None:
    """Refuse workers that no machine can hold, unless machines are started for them."""
    from .connect import room

    if not machines.workers and not room(machines.cpus):
        raise ConfigError(
            f"no machine of the cluster has {machines.cpus} CPUs; lower --cpus-per-worker, or set --workers so that an"
            " autoscaling cluster starts machines"
        )


def _maker(options: Options, store: Store, out: str, machines: Machines) -> Callable[[], Any]:
    """A function that starts a worker."""
    from .connect import ray
    from .worker import Worker

    place, files = os.path.abspath(store.root) if store.local else out, options.model_files()
    content = ray.put({file.name: file.read_bytes() for file in files}) if files else None
    # The pool replaces a worker that dies, since it knows the worker's task.
    made = ray.remote(num_cpus=machines.cpus, max_restarts=0, max_task_retries=0)(Worker)
    return lambda: made.remote(options, place, os.getcwd(), content, machines.cpus)


def _first(make: type[Task], work: Work) -> Task:
    return make(work, "plan" if work.kind == "video" else "block")


def _marked(store: Store, work: Work) -> int | None:
    text = store.read_text(f"tmp/{work.name}.at")
    store.remove(f"tmp/{work.name}.at")  # the next worker may die before it marks anything
    return int(text) if text and text.isdecimal() else None


def _given_up(work: Work, reason: str) -> Iterator[dict[str, str]]:
    for source in work.sources:
        yield {"source": shown(source), "error": f"{shown(source)}: its task was abandoned: {reason}", "type": "Lost"}


def _failures(store: Store) -> int:
    """Number of lines in the table of failures."""
    return sum((store.read_text(f"failed/{name}.jsonl") or "").count("\n") for name in store.names("failed", ".jsonl"))


class Videos:
    """The tasks of a video: its parts, then their join.

    Args:
        pool: pool that does the tasks.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._parts: dict[Work, list[Segment]] = {}
        self._left: dict[Work, int] = {}
        self._whole: set[Work] = set()  # begun in one piece: once, even if several parts cannot be read

    def go_on(self, task: Task, result: Any) -> None:
        """Add the tasks that follow a task.

        Args:
            task: task that has ended.
            result: parts of a video; or whether a part could be read as it was planned.
        """
        work = task.work
        if task.method == "plan":
            self._begin(type(task), work, result)
        elif result is False and work not in self._whole:
            self._whole.add(work)
            self._begin(type(task), work, [WHOLE])
        elif task.segment in self._parts.get(work, ()):
            self._left[work] -= 1
            if not self._left[work]:
                parts = self._parts.pop(work)
                del self._left[work]
                self._pool.add(type(task)(work, "join", (parts,)))

    def _begin(self, make: type[Task], work: Work, parts: list[Segment]) -> None:
        self._parts[work], self._left[work] = parts, len(parts)
        for part in parts:
            self._pool.add(make(work, "segment", (part,)))
