"""The rows and failures of one task, which are put in place together."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ..poses import Poses
from ..skeleton import Skeleton
from ..writers.parquet import ParquetFile
from ..writers.results import Place
from .storage import Store
from .work import Done, Work

LONGEST = 2000  # characters of an error


class Rows:
    """Counts and writes what a task finds.

    Args:
        file: file of the rows.
    """

    def __init__(self, file: ParquetFile) -> None:
        self._file = file
        self._frames = self._people = 0
        self._failed = dict[str, dict[str, str]]()

    def write(self, place: Place, poses: Poses) -> None:
        """Append the people of one frame."""
        self._file.write(place, poses)
        self._frames, self._people = self._frames + 1, self._people + len(poses)

    def fail(self, source: str, error: str, kind: str) -> None:
        """Put an input into the table of failures, with the first reason."""
        self._failed.setdefault(source, {"source": source, "error": error[:LONGEST], "type": kind})

    @property
    def failed(self) -> list[dict[str, str]]:
        """The lines of the table of failures."""
        return list(self._failed.values())

    @property
    def done(self) -> Done:
        """The counts of what was written."""
        return Done(self._frames, self._people, len(self._failed))


@contextmanager
def rows_of(work: Work, store: Store, skeleton: Skeleton) -> Iterator[Rows]:
    """Rows that are put in place at the end, after the failures: an existing file of rows means that all is done.

    Args:
        work: work of the rows.
        store: folder of results.
        skeleton: skeleton of the model.
    """
    temporary = store.temporary()
    file = ParquetFile(temporary, skeleton)
    rows = Rows(file)
    try:
        yield rows
    except BaseException:
        file.abandon()
        raise
    file.close()
    store.write_lines(f"failed/{work.name}.jsonl", rows.failed)
    store.commit(temporary, f"poses/{work.name}.parquet")
