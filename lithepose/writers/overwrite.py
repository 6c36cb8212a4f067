"""Names of result files, and checks for files that must not be replaced."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from ..errors import OutputError


def numbered(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3``, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def is_one_of(path: Path, others: Iterable[str | Path]) -> bool:
    """Whether a file is one of others, under any name; False if it does not exist."""
    return path.is_file() and any(Path(other).exists() and path.samefile(other) for other in others)


def identity(path: Path) -> tuple[int, int]:
    """A value that is the same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def stem(source: str) -> str:
    """Base name of a source's output files: the name of its file, ``camera-0``, or the address in words."""
    if "://" in source:
        return re.sub(r"\W+", "-", source.split("://", 1)[1]).strip("-") or "stream"
    return f"camera-{source}" if source.isdigit() else Path(source).stem or "stream"


def make_folder(path: Path) -> None:
    """Make a folder for results, if it does not exist.

    Raises:
        OutputError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: folder cannot be created ({error.strerror}); choose another folder") from error


@contextlib.contextmanager
def named(path: Path) -> Iterator[None]:
    """Turn system errors of a file into :class:`OutputError`, except for a pipe without a reader."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); free disk space, or choose another path"
        ) from error
