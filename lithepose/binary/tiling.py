"""Choice of the kernel's fastest tiling on this processor, by a measurement that is cached with the kernel.

All tilings give the same bits. They differ in the cache that the choices need, and in how often sums are loaded and
stored. Which is fastest depends on the processor and on the layer.
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

USUAL = 32  # the tiling that the kernel is tuned for
GAIN = 0.98  # largest time of another tiling, relative to the usual one
ROUNDS, LEAST = 11, 0.5  # number of turns, and shortest time of one in milliseconds
FILE = "tiling.json"

_lock = threading.Lock()
_known: dict[str, int] = {}


def block_of(layer: str, trial: Callable[[int], Callable[[], object]]) -> int:
    """Return the fastest of :data:`kernel.BLOCKS` for a layer.

    It is measured once per kind of layer and processor, in less than a second, and saved in the folder of the compiled
    kernel. If this folder is not writable, each process measures again.

    Args:
        layer: kind of layer, by channels and filters.
        trial: makes a call of the layer with a tiling.
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
    """Return the usual tiling, or another one that is clearly faster.

    Args:
        trial: makes a call of the layer with a tiling.
    """
    times = take_turns({str(block): trial(block) for block in machine.BLOCKS}, ROUNDS, LEAST)
    best = min(machine.BLOCKS, key=lambda block: median(times, str(block)))
    return best if ratio(times, str(best), str(USUAL)) <= GAIN else USUAL


def _processor() -> str:
    made_of = vectors.sum_of("kernel.py", "vectors.py", "cells.py")
    return f"{llvm.get_host_cpu_name()}, {vectors.WIDTH} bits, numba {numba.__version__}, kernel {made_of:08x}"


def _file() -> Path | None:
    folder = getattr(machine.convolve.stats, "cache_path", None)  # None if numba cannot cache the kernel
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
