"""Network predictions for one image, as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ..arrays import Float, Float32, Shaped

TOP = 64  # peaks kept per joint; also the fewest cells of a map (an input of 64x64 at stride 8)


@dataclass(frozen=True)
class Maps:
    """Heatmaps and part affinity fields.

    Attributes:
        heatmaps: (K, h, w) float32.
        pafs: (2 L, h, w) float32.
        peak_score: (K, T) float32, the largest maxima of 3x3 cells, descending, filled up with 0.
        peak_cell: (K, T) integers, their flat indices y * w + x.
    """

    heatmaps: Float[np.ndarray, "k h w"]
    pafs: Float[np.ndarray, "l2 h w"]
    peak_score: Float[np.ndarray, "k t"]
    peak_cell: Shaped[np.ndarray, "k t"]

    @classmethod
    def from_arrays(
        cls, heatmaps: Float[np.ndarray, "k h w"], pafs: Float[np.ndarray, "l2 h w"], top: int = TOP
    ) -> Maps:
        """Find the peaks of maps, as the exported graphs do internally.

        Args:
            heatmaps: (K, h, w) float32.
            pafs: (2 L, h, w) float32.
            top: peaks kept per joint, at most h * w.
        """
        k, h, w = heatmaps.shape
        padded = np.full((k, h + 2, w + 2), -np.inf, heatmaps.dtype)
        padded[:, 1:-1, 1:-1] = heatmaps
        rows = np.maximum(np.maximum(padded[:, :-2], padded[:, 1:-1]), padded[:, 2:])
        largest = np.maximum(np.maximum(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])
        joint, cell = np.nonzero(((heatmaps == largest) & (heatmaps > 0)).reshape(k, -1))
        value = heatmaps.reshape(k, -1)[joint, cell]
        order = np.lexsort((-value, joint))  # equal values keep their order
        joint, cell, value = joint[order], cell[order], value[order]
        rank = np.arange(len(joint)) - np.searchsorted(joint, np.arange(k))[joint]
        kept = rank < top
        where = joint[kept], rank[kept]
        peak_score, peak_cell = np.zeros((k, top), heatmaps.dtype), np.zeros((k, top), np.int64)
        peak_score[where], peak_cell[where] = value[kept], cell[kept]
        return cls(heatmaps, pafs, peak_score, peak_cell)


@dataclass(frozen=True)
class Found:
    """People with their joints, from networks that need no grouping.

    Attributes:
        xy: (N, K, 2) float32, input pixels.
        score: (N, K) float32 in [0, 1].
        person_score: (N,) float32 in [0, 1].
    """

    xy: Float[np.ndarray, "n k 2"]
    score: Float[np.ndarray, "n k"]
    person_score: Float[np.ndarray, " n"]


@dataclass(frozen=True)
class Boxes:
    """Boxes of people, the best first.

    Attributes:
        xyxy: (N, 4) float32 x0, y0, x1, y1.
        score: (N,) float32 in [0, 1].
    """

    xyxy: Float32[np.ndarray, "n 4"]
    score: Float32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.score)

    @property
    def xywh(self) -> Float32[np.ndarray, "n 4"]:
        """(N, 4) float32 x, y, width, height."""
        return np.concatenate([self.xyxy[:, :2], self.xyxy[:, 2:] - self.xyxy[:, :2]], 1)


Output: TypeAlias = Maps | Found | Boxes
