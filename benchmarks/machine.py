"""What the figures of a benchmark depend on besides the code."""

from __future__ import annotations

import platform
import re
from pathlib import Path


def cpu() -> str:
    """Model of the processor, for example ``amd-epyc-9b45``."""
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*:\s*(.+)", info.read_text()) if info.exists() else None
    name = found.group(1) if found else platform.processor() or platform.machine()
    name = re.sub(r"\(.*?\)|\b(processor|cpu|\d+-core)\b.*", "", name, flags=re.IGNORECASE)
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
