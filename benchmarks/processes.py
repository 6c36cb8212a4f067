"""CPU time and memory of a process's descendants while something runs, from /proc (Linux)."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def alive(process: int) -> bool:
    """Whether a process exists."""
    return Path(f"/proc/{process}").exists()


def descendants(process: int) -> dict[int, str]:
    """Return the descendants of a process, with their command lines."""
    parents = dict[int, int]()
    for path in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(path.name)] = int((path / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, ValueError):  # the process has ended
            continue
    below, found = {process}, dict[int, str]()
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    for child in below - {process}:
        try:
            name = Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except OSError:
            continue
        if name:  # empty for a process that has ended
            found[child] = name
    return found


class Watched:
    """Samples the descendants of a process at regular intervals while the block runs.

    Args:
        process: the ancestor.
        every: interval in seconds.
    """

    def __init__(self, process: int, every: float = 0.5) -> None:
        self._process, self._every = process, every
        self._names, self._first, self._last = dict[int, str](), dict[int, float](), dict[int, float]()
        self._memory: list[tuple[float, int, float]] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Watched:
        self._old = set(descendants(self._process))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.is_set():
            for process, name in descendants(self._process).items():
                try:
                    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
                    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
                except OSError:
                    continue
                spent = (int(fields[11]) + int(fields[12])) / TICKS
                self._first.setdefault(process, spent if process in self._old else 0.0)
                self._names[process], self._last[process] = name, spent
                self._memory.append((time.monotonic(), process, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
            self._stop.wait(self._every)

    def seconds(self, name: str) -> float:
        """CPU seconds of all processes with this word in their command line."""
        return sum(self._last[p] - self._first[p] for p, n in self._names.items() if name in n)

    def tenths(self, names: tuple[str, ...]) -> list[float]:
        """Largest memory of one of these processes, in MB, in every tenth of its lifetime."""
        seen = [(at, mb) for at, process, mb in self._memory if any(n in self._names[process] for n in names)]
        begin, end = seen[0][0], seen[-1][0]
        parts: list[list[float]] = [[] for _ in range(10)]
        for at, mb in seen:
            parts[min(int(10 * (at - begin) / max(end - begin, 1e-9)), 9)].append(mb)
        return [max(part, default=0.0) for part in parts]
