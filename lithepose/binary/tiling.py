"""Which of the kernel's tilings is the fastest on this processor, by a measurement that is kept with the kernel.

The tilings give the same bits. They differ in how much of the nearest cache the choices take, and in how often sums
are loaded and stored; which is faster depends on the processor and on the layer.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path

import llvmlite.binding as llvm
import numba

from ..timing import median, ratio, take_turns
from . import kernel as machine
from . import vectors

USUAL = 32  # on which the kernel was tuned
GAIN = 0.98  # share of the usual one's time that another must not exceed
ROUNDS, LEAST = 11, 0.5  # turns, and milliseconds of one
FILE = "tiling.json"

_lock = threading.Lock()
_known: dict[str, int] = {}


def block_of(layer: str, trial: Callable[[int], Callable[[], object]]) -> int:
    """The fastest of :data:`kernel.BLOCKS` for a layer.

    It is measured once for a kind of layer and a processor, which takes less than a second, and kept in the folder
    of the compiled kernel. Where that cannot be written, each process measures.

    Args:
        layer: what kind it is, channels and filters.
        trial: makes a call of the layer in a tiling.
    """
    key = f"{layer}, {_processor()}"
    with _lock:
        if key not in _known:
            _known.update(_read())
        if key not in _known:
            _known[key] = measure(trial)
            _write()
        return _known[key]


def measure(trial: Callable[[int], Callable[[], object]]) -> int:
    """The usual tiling, or another that is clearly faster.

    Args:
        trial: makes a call of the layer in a tiling.
    """
    times = take_turns({str(block): trial(block) for block in machine.BLOCKS}, ROUNDS, LEAST)
    best = min(machine.BLOCKS, key=lambda block: median(times, str(block)))
    return best if ratio(times, str(best), str(USUAL)) <= GAIN else USUAL


def _processor() -> str:
    made_of = vectors.sum_of("kernel.py", "vectors.py", "cells.py")
    return f"{llvm.get_host_cpu_name()}, {vectors.WIDTH} bits, numba {numba.__version__}, kernel {made_of:08x}"


def _file() -> Path | None:
    folder = getattr(machine.convolve.stats, "cache_path", None)  # None where numba cannot keep the kernel
    return Path(folder) / FILE if folder else None


def _read() -> dict[str, int]:
    try:
        found = json.loads(file.read_text("utf-8")) if (file := _file()) else {}
    except (OSError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {key: block for key, block in found.items() if block in machine.BLOCKS}


def _write() -> None:
    if (file := _file()) is None:
        return
    own = file.with_suffix(f".{os.getpid()}")  # another process may write at the same time
    try:
        own.write_text(json.dumps(_read() | _known, indent=1), "utf-8")
        own.replace(file)
    except OSError:
        own.unlink(missing_ok=True)
