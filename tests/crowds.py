"""People that are not photographed but drawn as a network's maps."""

from __future__ import annotations

import math

import numpy as np

from lithepose.decode import Maps
from lithepose.skeleton import COCO_17, COCO_HEAD
from lithepose.training import targets

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
    full = targets.head_joints(joints.astype(np.float32), COCO_17.joints, COCO_HEAD)
    return Maps.from_arrays(targets.heatmaps(full, COCO_HEAD, *shape), targets.fields(full, COCO_HEAD, *shape))


def people_of(n: int, seed: int, height: int = 46, width: int = 54) -> np.ndarray:
    """(n, 17, 3): people side by side and one above the other, that reach into each other."""
    rng = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(2 * n * width / height))
    place = np.stack([np.arange(n) % columns, np.arange(n) // columns], 1)
    each = np.array([8 * width / columns, 8 * height / (n // columns + 1)])
    xy = FIGURE * each + (place * each)[:, None] + rng.normal(0, each / 30, (n, 17, 2))
    return np.concatenate([xy, np.full((n, 17, 1), 2.0)], 2)
