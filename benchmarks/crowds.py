"""People that are not photographed but drawn as a network's maps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from lithepose.heads.base import DecodeConfig, Head
from lithepose.heads.heatmaps import heatmaps
from lithepose.heads.labels import reorder_joints
from lithepose.heads.outputs import Found, Maps
from lithepose.heads.pafs import COCO_HEAD, PafHead, part_affinity_fields
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17

CELLS = 32  # maps of 256x256 pixels

# A standing figure in a box of 1 x 1, in COCO-17 order.
FIGURE = np.array(
    [
        [0.50, 0.08], [0.53, 0.06], [0.47, 0.06], [0.56, 0.08], [0.44, 0.08], [0.64, 0.22], [0.36, 0.22], [0.72, 0.38],
        [0.28, 0.38], [0.74, 0.54], [0.26, 0.54], [0.59, 0.54], [0.41, 0.54], [0.60, 0.74], [0.40, 0.74], [0.61, 0.94],
        [0.39, 0.94],
    ]
)  # fmt: skip


def maps_of(joints: np.ndarray, shape: tuple[int, int] = (CELLS, CELLS)) -> Maps:
    """Targets of COCO-17 people (P, 17, 3), as a perfect network would answer."""
    return encoded(reorder_joints(joints.astype(np.float32), COCO_17.joints, COCO_HEAD.skeleton), COCO_HEAD, shape)


def encoded(joints: np.ndarray, head: PafHead, shape: tuple[int, int]) -> Maps:
    """Targets of people (P, K, 3), as maps."""
    return Maps.from_arrays(heatmaps(joints, head, *shape), part_affinity_fields(joints, head, *shape))


def decode(
    output: Maps | Found, head: Head[Any], config: DecodeConfig | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """By default thresholds."""
    return head.decode(output, config or DecodeConfig())


def people_of(n: int, seed: int, height: int = 46, width: int = 54) -> np.ndarray:
    """(n, 17, 3): people side by side and one above the other, that reach into each other."""
    rng = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(2 * n * width / height))
    place = np.stack([np.arange(n) % columns, np.arange(n) // columns], 1)
    each = np.array([8 * width / columns, 8 * height / (n // columns + 1)])
    xy = FIGURE * each + (place * each)[:, None] + rng.normal(0, each / 30, (n, 17, 2))
    return np.concatenate([xy, np.full((n, 17, 1), 2.0)], 2)


def walkers(seed: int, frames: int = 150, rate: float = 30.0) -> list[tuple[float, np.ndarray, Poses]]:
    """Two to five people who walk past each other through an image of 640x480, as a network might find them.

    Near people hide those behind; joints are off by a hundredth of the height and one in twelve is missed; who shows
    fewer than four joints is not found.

    Returns:
        by frame: time, number of every person found, what was found.
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
    """COCO-17 people in an image of 640x480."""
    person = np.sqrt((score**2).mean(1)).astype(np.float32)
    return Poses(xy.astype(np.float32), score.astype(np.float32), person, COCO_17, (640, 480), id)
