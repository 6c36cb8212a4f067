"""Memory of ``lithepose predict`` over a long video, which must not grow.

    python benchmarks/memory.py [FRAMES]

Makes a video of 640x480 by panning over an embedded image, runs the command on it (``--smooth --out``, size 256) and
reads its resident memory twice a second (Linux). Writes to ``--out``: memory after frame 500, and after every tenth of
the run.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import tyro

import lithepose
from lithepose.media.image import read_image
from lithepose.timing import write_table
from lithepose.writers.video import VideoWriter


def pan(path: Path, frames: int) -> None:
    """Write a video of a 640x480 window that moves over the image, which is twice as large."""
    sample = cv2.resize(read_image(Path(lithepose.__file__).parent / "samples" / "astronaut.jpg"), (1024, 1024))
    with VideoWriter(path, 30) as video:
        for i in range(frames):
            x = round((1 + np.sin(i / 40)) / 2 * (sample.shape[1] - 640))
            y = round((1 + np.cos(i / 55)) / 2 * (sample.shape[0] - 480))
            video.write(np.ascontiguousarray(sample[y : y + 480, x : x + 640]), i / 30)


def resident(pid: int) -> float:
    """Return the resident memory in MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def main(out: Path, frames: int = 10_000) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
        frames: frames of the video.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pan(folder / "pan.mp4", frames)
        command = [sys.executable, "-m", "lithepose", "predict", "pan.mp4", "--out", "out", "--size", "256", "--smooth"]
        began, seen, done, at = time.monotonic(), [], 0, 0
        results = folder / "out" / "poses.jsonl"
        with subprocess.Popen(command, cwd=folder) as process:
            while process.poll() is None:
                done += results.read_bytes()[at:].count(b"\n") if results.exists() else 0
                at = results.stat().st_size if results.exists() else 0
                seen.append((done, resident(process.pid)))
                time.sleep(0.5)
        seconds = time.monotonic() - began
        lines = [json.loads(line) for line in results.read_text().splitlines()]
        assert process.returncode == 0
        assert [line["frame"] for line in lines] == list(range(frames)), "every frame must occur once"
    first = next(m for done, m in seen if done >= 500)
    rows = [{"frames": 500, "largest_mb": round(first, 1)}]
    for tenth in range(1, 11):
        memory = [m for done, m in seen if (tenth - 1) / 10 * frames < done <= tenth / 10 * frames and m]
        rows.append({"frames": tenth * frames // 10, "largest_mb": round(max(memory), 1) if memory else ""})
    write_table(out, rows)
    print(
        f"{frames} frames in {seconds:.0f} s; largest memory after frame 500 and in every tenth of the run:"
        f" {[r['largest_mb'] for r in rows]} MB"
    )
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
