"""Labels of people, as heads encode them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Bool, Float, Float32
from ..skeleton import Skeleton


@dataclass
class Labels:
    """Labels of the people in one image.

    Attributes:
        joints: (P, K, 3) in the head's order.
        boxes: (P, 4) x, y, w, h.
        unsure: (P, K) bool, joints that may be visible but unlabelled; their channels are masked in the person's box.
        ignore: (R, 4) boxes where people are not, or not reliably, annotated.
        bare: (B, 4) boxes of ``ignore`` that hold one person without any keypoint.
    """

    joints: Float[np.ndarray, "p k 3"]
    boxes: Float[np.ndarray, "p 4"]
    unsure: Bool[np.ndarray, "p k"]
    ignore: Float[np.ndarray, "r 4"]
    bare: Float[np.ndarray, "b 4"]


def reorder_joints(
    joints: Float[np.ndarray, "p j 3"], names: tuple[str, ...], skeleton: Skeleton
) -> Float32[np.ndarray, "p k 3"]:
    """Reorder joints of one skeleton for another.

    Args:
        joints: (P, J, 3) x, y, visibility (0: not labelled) in the order of ``names``.
        names: J joint names.
        skeleton: K joints. Those missing in ``names`` stay unlabelled, except for the neck, which is the midpoint of
            the shoulders if both are labelled.

    Returns:
        (P, K, 3) float32.
    """
    out = np.zeros((len(joints), len(skeleton), 3), np.float32)
    index = {name: i for i, name in enumerate(names)}
    for k, name in enumerate(skeleton.joints):
        if name in index:
            out[:, k] = joints[:, index[name]]
        elif name == "neck" and {"left_shoulder", "right_shoulder"} <= index.keys():
            shoulders = joints[:, [index["left_shoulder"], index["right_shoulder"]]]
            both = (shoulders[:, :, 2] > 0).all(1)
            out[both, k, :2] = shoulders[both, :, :2].mean(1)
            out[both, k, 2] = shoulders[both, :, 2].min(1)
    return out
