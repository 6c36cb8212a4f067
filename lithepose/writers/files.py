"""Names of the files that results go to, and the guard over files that must not be replaced."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path


def _numbered(name: str) -> Iterator[str]:
    """``name``, ``name-2``, ``name-3``, ..."""
    yield name
    yield from (f"{name}-{number}" for number in itertools.count(2))


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _stem(source: str) -> str:
    """Name of a source's files: that of the file, ``camera-0``, or the address in words."""
    if "://" in source:
        return re.sub(r"\W+", "-", source.split("://", 1)[1]).strip("-") or "stream"
    return f"camera-{source}" if source.isdigit() else Path(source).stem or "stream"


class UnwritableError(OSError):
    """A file that cannot be written, with its name, why, and what to do."""


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Turn what the system says of a file into :class:`UnwritableError`, but for a pipe without a reader."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnwritableError(
            f"{path}: cannot be written ({error.strerror or error}); make room, or write elsewhere"
        ) from error
