"""Stability of ids, and jitter and lag of smoothed joints, on generated walks; times are not measured.

    python benchmarks/tracking.py

Twenty videos show two to five people who walk past each other (``benchmarks/crowds.py``). Joints are off by a hundredth
of a person's height, one in twelve is missed, and those behind other people are hidden. Smoothing is measured on a
still person, and on a person who moves steadily. Writes the results to ``--out``.
"""

from __future__ import annotations

import csv
from pathlib import Path

import tyro

ROOT = Path(__file__).parent.parent

import numpy as np
from crowds import FIGURE, poses_of, walkers

from lithepose.tracking.one_euro import Smoother
from lithepose.tracking.tracker import Tracker

HIDDEN, RATE, LENGTH = 10, 30.0, 200.0


def ids() -> dict[str, float]:
    names = "people", "switches", "ids", "not found for 10 frames or more", "of these with the same id after"
    count: dict[str, float] = dict.fromkeys(names, 0)
    for seed in range(20):
        tracker, known, seen = Tracker(), {}, {}
        given: set[int] = set()
        for frame, (time, numbers, poses) in enumerate(walkers(seed)):
            followed = tracker(poses, time).id
            assert followed is not None
            for number, id in zip(numbers.tolist(), followed.tolist(), strict=True):
                count["people"] += 1
                if id < 0:
                    continue
                if number in known:
                    count["switches"] += known[number] != id
                    if frame - seen[number] > HIDDEN:
                        count["not found for 10 frames or more"] += 1
                        count["of these with the same id after"] += known[number] == id
                known[number], seen[number] = id, frame
                given.add(id)
        count["ids"] += len(given) - len(known)
    count["more ids than people"] = count.pop("ids")
    return count


def smoothing() -> dict[str, float]:
    figures = {}
    rng, smoother, raw, smooth = np.random.default_rng(0), Smoother(), [], []
    for frame in range(600):
        xy = FIGURE * (LENGTH / 2, LENGTH) + rng.normal(0, LENGTH / 100, FIGURE.shape)
        raw.append(xy)
        smooth.append(smoother(poses_of(xy[None], np.full((1, 17), 0.6), np.array([1])), frame / RATE).xy[0])
    before, after = np.array(raw[60:]), np.array(smooth[60:])
    figures["jitter left, about the mean"] = after.std(0).mean() / before.std(0).mean()
    figures["jitter left, from frame to frame"] = np.diff(after, axis=0).std() / np.diff(before, axis=0).std()
    for lengths in (0.1, 0.3, 1.0):  # per second
        smoother, step, behind = Smoother(), lengths * LENGTH / RATE, np.zeros((17, 2))
        for frame in range(150):
            xy = FIGURE * (LENGTH / 2, LENGTH) + (step * frame, 0)
            behind = xy - smoother(poses_of(xy[None], np.full((1, 17), 0.6), np.array([1])), frame / RATE).xy[0]
        figures[f"lag in frames at {lengths} lengths a second"] = behind[:, 0].mean() / step
    return figures


def main(out: Path) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
    """
    rows = [(name, f"{value:.3g}" if value % 1 else int(value)) for name, value in (ids() | smoothing()).items()]
    with out.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("figure", "value"), *rows])
    for name, value in rows:
        print(f"{name}: {value}")


if __name__ == "__main__":
    tyro.cli(main)
