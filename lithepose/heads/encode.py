"""Poses -> maps: the exact inverse of :mod:`lithepose.heads.decode`."""

from __future__ import annotations

import numpy as np

from ..geometry import to_cells
from ..skeleton import Head

CUT = 4.6052  # exponents beyond it (values under 0.01) become 0, as OpenPose's trainer does


def head_joints(joints: np.ndarray, names: tuple[str, ...], head: Head) -> np.ndarray:
    """Bring joints of any skeleton into a head's order.

    Args:
        joints: (P, J, 3) x, y, visibility (0: not labelled) in the order of ``names``.
        names: J joint names.
        head: its skeleton decides; a joint that ``names`` lacks stays unlabelled, but for the neck, which is the
            midpoint of the shoulders where both are labelled.

    Returns:
        (P, K, 3) float32.
    """
    out = np.zeros((len(joints), len(head.skeleton), 3), np.float32)
    index = {name: i for i, name in enumerate(names)}
    for k, name in enumerate(head.skeleton.joints):
        if name in index:
            out[:, k] = joints[:, index[name]]
        elif name == "neck" and {"left_shoulder", "right_shoulder"} <= index.keys():
            shoulders = joints[:, [index["left_shoulder"], index["right_shoulder"]]]
            both = (shoulders[:, :, 2] > 0).all(1)
            out[both, k, :2] = shoulders[both, :, :2].mean(1)
            out[both, k, 2] = shoulders[both, :, 2].min(1)
    return out


def heatmaps(joints: np.ndarray, head: Head, height: int, width: int) -> np.ndarray:
    """Gaussians at every labelled joint; where people overlap, the larger value.

    Args:
        joints: (P, K, 3) in input pixels.
        head: sigma and stride.
        height: of the map, in cells.
        width: likewise.

    Returns:
        (K, height, width) float32 in [0, 1].
    """
    out = np.zeros((len(head.skeleton), height, width), np.float32)
    if not len(joints):
        return out
    cells = to_cells(joints[:, :, :2], head.stride)
    dx2 = (np.arange(width, dtype=np.float32) - cells[:, :, :1]) ** 2  # (P, K, W)
    dy2 = (np.arange(height, dtype=np.float32) - cells[:, :, 1:]) ** 2  # (P, K, H)
    near = (joints[:, :, 2] > 0) & (np.maximum(dx2.min(2), dy2.min(2)) < 2 * CUT * head.sigma**2)
    for p, k in np.argwhere(near):
        exponent = (dy2[p, k][:, None] + dx2[p, k][None]) / (2 * head.sigma**2)
        np.maximum(out[k], np.where(exponent <= CUT, np.exp(-exponent), 0.0), out=out[k])
    return out


def fields(joints: np.ndarray, head: Head, height: int, width: int) -> np.ndarray:
    """Unit vectors from a to b along every limb with two labelled joints, averaged where people overlap.

    A cell belongs to a limb when it lies within ``head.limb_width`` of the segment's line and inside the segment's
    bounding box grown by as much.

    Returns:
        (2 L, height, width) float32.
    """
    total = np.zeros((len(head.limbs), 2, height, width), np.float32)
    count = np.zeros((len(head.limbs), height, width), np.float32)
    cells = to_cells(joints[:, :, :2], head.stride)
    reach = head.limb_width
    for limb, (a, b) in enumerate(head.limbs):
        for p in np.flatnonzero((joints[:, a, 2] > 0) & (joints[:, b, 2] > 0)):
            start, end = cells[p, a], cells[p, b]
            length = float(np.hypot(*(end - start)))
            if length < 1e-3:
                continue
            unit = (end - start) / length
            low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
            x0, y0 = np.maximum(np.ceil(low), 0).astype(int)
            x1, y1 = np.minimum(np.floor(high) + 1, (width, height)).astype(int)
            if x0 >= x1 or y0 >= y1:
                continue
            across = (np.arange(x0, x1) - start[0]) * unit[1] - ((np.arange(y0, y1) - start[1]) * unit[0])[:, None]
            on = (np.abs(across) <= reach).astype(np.float32)
            total[limb, 0, y0:y1, x0:x1] += on * unit[0]
            total[limb, 1, y0:y1, x0:x1] += on * unit[1]
            count[limb, y0:y1, x0:x1] += on
    total /= np.maximum(count, 1)[:, None]
    return total.reshape(-1, height, width)
