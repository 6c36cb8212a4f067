"""Consoles, exit codes, and the error for a missing package."""

from __future__ import annotations

import logging
import sys

from rich.console import Console

from ...errors import MissingExtraError

OK, SOME_FAILED, UNUSABLE, STOPPED = 0, 1, 2, 130
QUIET, USUAL, VERBOSE = 0, 1, 2

# Tables in a pipe or a file are as wide as they need to be, not cut at 80 columns.
out_console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err_console = Console(stderr=True, soft_wrap=True)
_level = USUAL


def set_level(level: int) -> None:
    """Set how much is printed: :data:`QUIET`, :data:`USUAL` or :data:`VERBOSE`."""
    global _level
    _level = level
    logging.getLogger("lithepose").setLevel(logging.INFO if level >= VERBOSE else logging.NOTSET)
    if level >= VERBOSE:
        logging.basicConfig(format="%(message)s")  # to standard error


def tells(level: int = USUAL) -> bool:
    """Whether messages of a level are printed."""
    return _level >= level


def note(text: str, level: int = USUAL) -> None:
    """Print a line to standard error that is not an error."""
    if tells(level):
        err_console.print(text, markup=False, highlight=False)


def counted(number: int, one: str, several: str) -> str:
    """``1 frame``, ``2 frames``."""
    return f"{number} {one if number == 1 else several}"


def missing(command: str, extra: str, error: ImportError) -> MissingExtraError:
    """An error that says in one line what to install."""
    name = (error.name or "a package").split(".")[0]
    return MissingExtraError(f"{command} needs {name}: pip install 'lithepose[{extra}]' ({error})")
