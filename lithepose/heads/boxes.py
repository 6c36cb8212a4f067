"""Boxes of people: output of a person detector, and removal of duplicates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np

from ..arrays import Float, Int
from ..skeleton import Skeleton
from .outputs import Boxes

OKS_SIGMA = 0.08  # of skeletons without published constants: between the values of a shoulder and a knee


@dataclass(frozen=True)
class BoxHead:
    """Output of a person detector: a score and a box for every cell.

    Attributes:
        strides: input pixels per cell of its maps, in the order of predictions.
    """

    strides: tuple[int, ...] = (8, 16, 32)

    batched: ClassVar[bool] = True
    fixed_size: ClassVar[bool] = False


PERSON_HEAD = BoxHead()
"""Head of person_detector."""


def box_iou(
    a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "m 4"], of_first: bool = False
) -> Float[np.ndarray, "n m"]:
    """Return (N, M) IoU of boxes (N, 4) and (M, 4), x0, y0, x1, y1; or intersection over the first box's area."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    overlap = np.maximum(high - low, 0).prod(2)
    areas = [np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1) for boxes in (a, b)]
    whole = areas[0][:, None] + (0 if of_first else areas[1] - overlap)
    return overlap / np.maximum(whole, 1e-9)


def suppress(likeness: Float[np.ndarray, "n n"], limit: float) -> Int[np.ndarray, " kept"]:
    """Greedy non-maximum suppression.

    Args:
        likeness: (N, N) similarity of people, in descending order of their scores.
        limit: a person is dropped if its similarity to a kept one is above this.

    Returns:
        indices of the kept people, ascending.
    """
    kept, alive = list[int](), np.ones(len(likeness), bool)
    for i in range(len(likeness)):
        if alive[i]:
            kept.append(i)
            alive &= likeness[i] <= limit
    return np.array(kept, np.intp)


def decode_boxes(
    boxes: Float[np.ndarray, "t 4"], score: Float[np.ndarray, " t"], least: float, overlap: float
) -> Boxes:
    """Convert a detector's predictions for one image to its people.

    Args:
        boxes: (T, 4) x0, y0, x1, y1, descending by score.
        score: (T,) scores.
        least: lowest score of a person.
        overlap: IoU above which the lower-scoring of two boxes is a duplicate.
    """
    sure = score >= least  # of hundreds of boxes only a few remain
    boxes, score = boxes[sure], score[sure]
    good = (boxes[:, 2:] > boxes[:, :2]).all(1) & np.isfinite(boxes).all(1)
    boxes, score = boxes[good], score[good]
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], 1)
    kept = np.array(cv2.dnn.NMSBoxes(xywh.tolist(), score.tolist(), 0.0, overlap), np.intp)
    return Boxes(boxes[kept].astype(np.float32), score[kept].astype(np.float32))


def pose_likeness(
    xy: Float[np.ndarray, "n k 2"], weight: Float[np.ndarray, "n k"], area: Float[np.ndarray, " n"], skeleton: Skeleton
) -> Float[np.ndarray, "n n"]:
    """Object keypoint similarity of every pair of people.

    Args:
        xy: (N, K, 2) joints.
        weight: (N, K) scores of the joints; the smaller score of a pair is the joint's weight.
        area: (N,) area of each person's box in pixels; pairs use the mean.
        skeleton: supplies the sigmas.

    Returns:
        (N, N) in [0, 1].
    """
    sigmas = np.array(skeleton.sigmas or (OKS_SIGMA,) * len(skeleton))
    squared = np.nan_to_num(((xy[:, None] - xy[None]) ** 2).sum(3), nan=1e12)
    size = 0.53 * (area[:, None] + area[None]) / 2  # share of a person's outline in its box, in COCO
    similarity = np.exp(-squared / (2 * (2 * sigmas) ** 2 * np.maximum(size, 1.0)[..., None]))
    both = np.minimum(weight[:, None], weight[None])
    return (similarity * both).sum(2) / np.maximum(both.sum(2), 1e-6)
