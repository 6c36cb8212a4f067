"""Time and memory of reading a video, compared with OpenCV's reader.

    python benchmarks/reading.py --out results/reading-CPU.csv

The video has 1280x720 pixels and 1,800 frames in H.264, made by panning over an embedded image. Both readers read it
completely, in turns, each in its own process; frames are RGB in memory. Results are medians of the rounds. Memory is
the largest resident memory, after 100 frames and at the end.
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
from lithepose.media.inputs import expand
from lithepose.media.sources import Failed, frames
from lithepose.timing import about, write_table
from lithepose.writers.video import VideoWriter

WIDTH, HEIGHT, FRAMES = 1280, 720, 1800


def make_video(path: Path) -> None:
    """Write a video of a window that moves over the image."""
    sample = cv2.resize(read_image(Path(lithepose.__file__).parent / "samples" / "astronaut.jpg"), (2048, 2048))
    with VideoWriter(path, 30) as video:
        for i in range(FRAMES):
            x = round((1 + np.sin(i / 40)) / 2 * (2048 - WIDTH))
            y = round((1 + np.cos(i / 55)) / 2 * (2048 - HEIGHT))
            video.write(np.ascontiguousarray(sample[y : y + HEIGHT, x : x + WIDTH]), i / 30)


def resident() -> float:
    """Largest memory of this process so far, in MB (Linux); getrusage would include its parent's."""
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def read(path: str, reader: str) -> None:
    """Read all frames with one reader, and print time and memory as JSON."""
    count, early, began = 0, 0.0, time.perf_counter()
    if reader == "lithepose":
        for frame in frames(expand([path])):
            assert not isinstance(frame, Failed)
            count += 1
            early = resident() if count == 100 else early
    else:
        capture = cv2.VideoCapture(path)
        while True:
            ok, image = capture.read()
            if not ok:
                break
            cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
            count += 1
            early = resident() if count == 100 else early
    seconds = time.perf_counter() - began
    assert count == FRAMES, count
    print(json.dumps({"ms_a_frame": seconds * 1000 / count, "mb_at_100": early, "mb_at_end": resident()}))


def main(out: Path, rounds: int = 5) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
        rounds: rounds of both readers.
    """
    taken: dict[str, list[dict[str, float]]] = {"opencv": [], "lithepose": []}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pan.mp4"
        make_video(path)
        for _ in range(rounds):
            for reader, results in taken.items():
                command = [sys.executable, __file__, "--worker", str(path), reader]
                results.append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
    rows = []
    for reader, results in taken.items():
        ratios = [r["ms_a_frame"] / o["ms_a_frame"] for r, o in zip(results, taken["opencv"], strict=True)]
        row = {name: round(float(np.median([r[name] for r in results])), 3) for name in results[0]}
        row["times_opencv"] = round(float(np.median(ratios)), 3)
        rows.append({"reader": reader, **row, "frames": FRAMES, "rounds": rounds, "versions": about()})
    write_table(out, rows)
    for row in rows:
        print(row)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        read(*sys.argv[2:4])
    else:
        tyro.cli(main)
