"""Time per video frame when boxes follow people, compared with detection on every frame; and similarity of poses.

    python benchmarks/video.py --data DATA --out results/video-CPU.csv

The video has 640x480 pixels and 300 frames. Three people cut out of validation images of Leeds Sports Pose Extended
move to and fro over a plain background; a fourth enters at frame 150. Both methods take turns frame by frame, so that a
slow machine affects both. Similarity is the object keypoint similarity of each person with the most similar person of
the other method. Writes the row to ``--out``.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import tyro
from rich.progress import track
from tracking_video import HEIGHT, WIDTH, Walker, cut_outs, overlap, scene_of

import lithepose
from lithepose.heads.boxes import pose_likeness
from lithepose.inference.box_follower import BoxFollower
from lithepose.poses import Poses
from lithepose.timing import about, write_table

FRAMES, ENTERS, PEOPLE = 300, 150, 3


def agreement(one: Poses, other: Poses) -> list[float]:
    """Similarity of each person with the most similar one of the other method; 0 if it found none."""
    if not len(one) or not len(other):
        return [0.0] * len(one)
    xy, score = np.concatenate([one.xy, other.xy]), np.concatenate([one.score, other.score])
    area = np.concatenate([one.boxes, other.boxes])[:, 2:].prod(1)
    return pose_likeness(xy, score, area, one.skeleton)[: len(one), len(one) :].max(1).tolist()


def main(data: Path, out: Path, threads: int = 2, detect_every: int = 0) -> None:
    """Measure, and write the table.

    Args:
        data: folder with ``lspet-1.tar`` and ``lspet-2.tar``.
        out: CSV file to write.
        threads: threads of the networks.
        detect_every: fewest frames between two detections; 0 uses the default.
    """
    model = lithepose.load(threads=threads)
    assert isinstance(model, lithepose.TopDown)
    model.detect_every = detect_every or model.detect_every
    rng = np.random.default_rng(0)
    walkers = []
    for image, box in cut_outs(model, data, PEOPLE + 1):
        top = HEIGHT - image.shape[0] - rng.uniform(0, 60)
        walkers.append(Walker(image, box, rng.uniform(0, 2 * WIDTH), top, rng.uniform(2, 5) * rng.choice([-1, 1])))
    follow, spent, alike, found_at = BoxFollower(model), {"every": [], "follow": []}, [], FRAMES
    for frame in track(range(FRAMES)):
        here = walkers[: PEOPLE + (frame >= ENTERS)]
        image = scene_of(here, frame)
        began = time.perf_counter()
        whole = model(image)
        middle = time.perf_counter()
        followed = follow(image)
        spent["every"].append((middle - began) * 1000)
        spent["follow"].append((time.perf_counter() - middle) * 1000)
        alike += agreement(whole, followed)
        if frame >= ENTERS and len(followed):
            entered = overlap(followed.boxes, walkers[PEOPLE].place(frame)[None]).max() > 0.3
            found_at = min(found_at, frame) if entered else found_at
    row = {
        "threads": threads,
        "detect_every": model.detect_every,
        "detections": follow.detections,
        "every_frame_ms": round(float(np.mean(spent["every"])), 3),
        "follow_ms": round(float(np.mean(spent["follow"])), 3),
        "ratio": round(float(np.sum(spent["follow"]) / np.sum(spent["every"])), 3),
        "mean_oks": round(float(np.mean(alike)), 4),
        "found_after_frames": found_at - ENTERS,
        "versions": about(),
    }
    write_table(out, [row])
    print(*(f"{name}: {value}" for name, value in row.items()), sep="\n")


if __name__ == "__main__":
    tyro.cli(main)
