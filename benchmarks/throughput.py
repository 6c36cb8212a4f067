"""Frames per second of ``lithepose predict --model lithe_paf`` on a video, and of its network on frames in memory.

    python benchmarks/throughput.py

Uses a video of 640x480, with and without writing a drawn video, at two input sizes, with one and two threads of the
network. Network and command take turns three times. Writes a table of medians to ``--out``.
"""

from __future__ import annotations

import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro
from memory import pan

import lithepose
from lithepose.media.inputs import expand
from lithepose.media.sources import Frame, frames
from lithepose.timing import cpu, write_table

ROUNDS = 3


def alone(model: lithepose.Predictor, inputs: list[np.ndarray], count: int) -> float:
    """Frames per second of the network."""
    began = time.perf_counter()
    for i in range(count):
        model.runtime(inputs[i % len(inputs)])
    return count / (time.perf_counter() - began)


def command(folder: Path, count: int, *options: str) -> float:
    """Frames per second as printed by the command, without the time to load the model."""
    line = [sys.executable, "-m", "lithepose", "predict", "pan.mp4", *options]
    said = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=True).stderr
    found = re.search(r"(\d+) frames,.*failed, ([0-9.]+) s", said.replace("\n", " "))
    assert found
    assert int(found.group(1)) == count, said
    return count / float(found.group(2))


def main(out: Path) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
    """
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for size, count in ((256, 600), (576, 240)):
            pan(folder / "pan.mp4", count)
            some = [f.image for f in frames(expand([str(folder / "pan.mp4")])) if isinstance(f, Frame)][:50]
            for threads in (1, 2):
                model = lithepose.Predictor("lithe_paf", size=size, threads=threads)
                inputs = [model.letterbox(image)[0][None] for image in some]
                alone(model, inputs, 50)
                options = "--model", "lithe_paf", "--size", str(size), "--threads", str(threads)
                ways = {"json": ("--json", "poses.jsonl"), "drawn": ("--out", "out")}
                speeds: dict[str, list[float]] = {"network": [], **{way: [] for way in ways}}
                for _ in range(ROUNDS):
                    speeds["network"].append(alone(model, inputs, count // 4))
                    for way, more in ways.items():
                        speeds[way].append(command(folder, count, *options, *more))
                row: dict[str, object] = {"size": size, "threads": threads}
                row |= {f"{way}_fps": f"{statistics.median(values):.1f}" for way, values in speeds.items()}
                for way in ways:
                    shares = [a / b for a, b in zip(speeds[way], speeds["network"], strict=True)]
                    row[f"{way}_share"] = f"{statistics.median(shares):.2f}"
                rows.append(row | {"cpu": cpu()})
                print(*(f"{k} {v}" for k, v in rows[-1].items()), sep="  ", flush=True)
    write_table(out, rows)


if __name__ == "__main__":
    tyro.cli(main)
