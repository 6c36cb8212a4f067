"""What the figures of a benchmark depend on besides the code, and the tables that they are kept in."""

from __future__ import annotations

import csv
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"


def cpu() -> str:
    """Model of the processor, for example ``amd-epyc-9b45``."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found.group(1) if found else platform.processor() or platform.machine()
    name = re.sub(r"\(.*?\)|\b(processor|cpu|\d+-core)\b.*", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def table(name: str) -> Path:
    """Where a benchmark's table of this machine lies, for example ``results/stages-intel-xeon.csv``."""
    return RESULTS / f"{name}-{cpu()}.csv"


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """A table whose columns are the first row's keys."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
