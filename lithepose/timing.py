"""Functions that all benchmarks share: timing in turns, medians, ratios, and software versions."""

from __future__ import annotations

import csv
import math
import platform
import random
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import distributions, version
from pathlib import Path

WARMUP = 3

Times = dict[str, list[float]]

Row = dict[str, object]


def about() -> str:
    """Versions of Python and of the packages that the measured times depend on."""
    packages = "lithepose", "onnxruntime", "openvino", "opencv-python-headless", "numpy"
    found = [f"{name} {version(name)}" for name in packages if any(distributions(name=name))]
    return ", ".join([f"python {platform.python_version()}", *found])


def take_turns(parts: dict[str, Callable[[], object]], rounds: int, least: float = 0) -> Times:
    """Milliseconds of every part in every round. The parts take turns, so that a slow machine slows all of them.

    The order changes in every round, so that no part always follows the same one.

    Args:
        parts: functions to time, by name.
        rounds: number of rounds.
        least: least milliseconds of a turn. A shorter part is called repeatedly, and the mean counts. An untimed call
            comes first, so that another part does not affect its caches and clock.
    """
    times: Times = {name: [] for name in parts}
    calls = dict.fromkeys(parts, 1)
    for name, part in parts.items():
        part()
        once = min(_spent(part, 1) for _ in range(WARMUP))
        calls[name] = max(1, math.ceil(least / once))
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(parts), len(parts)):
            if least:
                parts[name]()
            times[name].append(_spent(parts[name], calls[name]))
    return times


def _spent(part: Callable[[], object], calls: int) -> float:
    began = time.perf_counter()
    for _ in range(calls):
        part()
    return (time.perf_counter() - began) * 1000 / calls


def median(times: Times, name: str) -> float:
    """Median time of a part, in milliseconds."""
    return statistics.median(times[name])


def ratio(times: Times, name: str, to: str) -> float:
    """Median of the rounds' ratios: how many times as long ``name`` takes as ``to``."""
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))


def cpu() -> str:
    """Model of the processor, for example ``amd-epyc-9b45``."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found.group(1) if found else platform.processor() or platform.machine()
    name = re.sub(r"\(.*?\)|\b(processor|cpu|\d+-core)\b.*", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def write_table(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows as CSV, with the keys of the first row as columns, and make the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
