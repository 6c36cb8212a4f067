"""What the figures of a benchmark depend on besides the code."""

from __future__ import annotations

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path


def cpu() -> str:
    """Model of the processor, for example ``amd-epyc-9b45``."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found.group(1) if found else platform.processor() or platform.machine()
    name = re.sub(r"\(.*?\)|\b(processor|cpu|\d+-core)\b.*", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def versions() -> str:
    """Python and the packages that do the work."""
    packages = ("lithepose", "onnxruntime", "opencv-python-headless", "numpy")
    return ", ".join([f"python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)])


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
