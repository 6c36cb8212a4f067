"""People drawn as a network's maps, instead of photographs."""

from __future__ import annotations

from typing import Any

import numpy as np

from lithepose.heads.base import DecodeConfig, Head
from lithepose.heads.outputs import Found, Maps
from lithepose.poses import Poses
from lithepose.reproduce.generated import CELLS, FIGURE, encoded, maps_of, people_of
from lithepose.skeleton import COCO_17

__all__ = ["CELLS", "FIGURE", "decode", "encoded", "maps_of", "people_of", "poses_of", "walkers"]


def decode(
    output: Maps | Found, head: Head[Any], config: DecodeConfig | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Decode with default thresholds, unless a config is given."""
    return head.decode(output, config or DecodeConfig())


def walkers(seed: int, frames: int = 150, rate: float = 30.0) -> list[tuple[float, np.ndarray, Poses]]:
    """Make poses of two to five people who walk past each other in an image of 640x480, as a network might find them.

    Near people hide the people behind them. Joints are off by a hundredth of the height, and one in twelve is missed.
    People with fewer than four visible joints are not found.

    Returns:
        per frame: time, the true number of every person found, the poses.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 6))
    height = rng.uniform(120, 260, n)
    speed = rng.uniform(60, 200, n) * rng.choice([-1, 1], n)
    start = np.where(speed > 0, rng.uniform(-100, 200, n), rng.uniform(440, 740, n))
    top, gait = 480 - height - rng.uniform(0, 60, n), rng.uniform(0, 6, n)
    video = []
    for frame in range(frames):
        time = frame / rate
        swing = 0.12 * np.sin(2 * np.pi * 1.2 * time + gait)
        xy = np.tile(FIGURE, (n, 1, 1))
        for joint, share in ((15, 1), (16, -1), (13, 0.6), (14, -0.6), (9, -0.8), (10, 0.8)):
            xy[:, joint, 0] += share * swing
        xy *= np.stack([height / 2, height], 1)[:, None]
        xy += np.stack([start + speed * time, top], 1)[:, None]
        left, right = xy[..., 0].min(1), xy[..., 0].max(1)
        x = xy[..., 0]
        hidden = (x < 0) | (x > 640) | (rng.random((n, 17)) < 1 / 12)
        for near in range(n):
            behind = height < height[near]
            hidden |= behind[:, None] & (x > left[near]) & (x < right[near])
        xy += rng.normal(0, 0.01, xy.shape) * height[:, None, None]
        xy[hidden] = np.nan
        score = np.where(hidden, 0, rng.uniform(0.3, 0.9, (n, 17)))
        found = np.flatnonzero((~hidden).sum(1) >= 4)
        video.append((time, found, poses_of(xy[found], score[found])))
    return video


def poses_of(xy: np.ndarray, score: np.ndarray, id: np.ndarray | None = None) -> Poses:
    """Make COCO-17 people in an image of 640x480."""
    person = np.sqrt((score**2).mean(1)).astype(np.float32)
    return Poses(xy.astype(np.float32), score.astype(np.float32), person, COCO_17, (640, 480), id)
