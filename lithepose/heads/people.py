"""People with their joints, predicted by the network or read from its heatmaps inside the exported graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..errors import ConfigError
from ..geometry import Letterbox, PersonCrop
from ..skeleton import COCO_17, FLIC_11
from .base import DecodeConfig, Head, keep_people
from .labels import Labels
from .outputs import Found


@dataclass(frozen=True)
class FoundHead(Head[Found]):
    """The network predicts people; decoding applies thresholds.

    Attributes:
        apart: in input pixels; positions of a joint in two views that are farther apart are not averaged.
    """

    apart: ClassVar[float] = np.inf

    def decode(self, output: Found, config: DecodeConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As :meth:`Head.decode`; the person score is the network's."""
        order = list(self.output_order)
        sure = _sure_joints(output.xy[:, order], output.score[:, order], config)
        return keep_people(*sure, output.person_score, config)

    def unmirror(self, output: Found, width: int) -> Found:
        """As :meth:`Head.unmirror`."""
        order = list(self.skeleton.flip_order)
        xy = output.xy[:, order] * np.array([-1, 1], np.float32) + np.array([width - 1, 0], np.float32)
        return Found(xy, output.score[:, order], output.person_score)

    def average(self, views: Sequence[tuple[Found, Letterbox | PersonCrop]]) -> Found:
        """As :meth:`Head.average`; averages the positions of a joint that lie near the view with its highest score.

        Raises:
            ConfigError: there are several people, who may differ between views.
        """
        if any(len(view.person_score) != 1 for view, _ in views):
            raise ConfigError("flip and scales need a network that outputs heatmaps, or one for a single person")
        target = views[0][1]
        places = np.stack([target.to_input(back.to_image(view.xy)) for view, back in views])
        weight = np.stack([view.score for view, _ in views])[..., None] + 1e-6  # views with a higher score count more
        surest = np.take_along_axis(places, weight.argmax(0)[None], 0)
        weight = np.where(np.linalg.norm(places - surest, axis=-1, keepdims=True) <= self.apart, weight, 0)
        xy = (places * weight).sum(0) / weight.sum(0)
        score = np.mean([view.score for view, _ in views], 0)
        return Found(xy.astype(np.float32), score, np.mean([view.person_score for view, _ in views], 0))


def _sure_joints(xy: np.ndarray, score: np.ndarray, config: DecodeConfig) -> tuple[np.ndarray, np.ndarray]:
    """Remove joints below the threshold; with ``config.complete`` they are kept as guesses."""
    if config.complete:
        guess = np.clip(score, config.peak / 20, config.peak / 2)
        return xy, np.where(np.isnan(xy[..., 0]), 0, np.where(score >= config.peak, score, guess))
    found = score >= config.peak
    return np.where(found[..., None], xy, np.nan), np.where(found, score, 0)


@dataclass(frozen=True)
class CropHead(FoundHead):
    """Heatmaps of one person in a crop; the exported graph returns the joints.

    Training draws the Gaussians on the device, see :func:`lithepose.training.crops.gaussian_targets`.

    Attributes:
        stride: input pixels per map cell.
        sigma: standard deviation of a joint's Gaussian, in cells.
    """

    apart: ClassVar[float] = 16.0  # beyond it the heatmaps of two views probably show two different peaks
    stride: int = 4
    sigma: float = 2.0

    @property
    def channels(self) -> tuple[int, int]:
        """Number of (heatmap, part affinity field) channels."""
        return len(self.skeleton), 0


@dataclass(frozen=True)
class CoordinateHead(FoundHead):
    """Coordinates of one person's joints, as shares of the square input."""

    fixed_size: ClassVar[bool] = True

    def encode(self, labels: Labels, size: int) -> dict[str, np.ndarray]:
        """``xy`` (K, 2) float32 as shares of the image, ``visible`` (K,) bool."""
        joints = labels.joints[0]
        return {"xy": (joints[:, :2] + np.float32(0.5)) / np.float32(size), "visible": joints[:, 2] > 0}


@dataclass(frozen=True)
class InstanceHead(FoundHead):
    """People in boxes that the network proposes itself, as Mask R-CNN does."""

    single_person: ClassVar[bool] = False
    batched: ClassVar[bool] = False
    learns_boxes: ClassVar[bool] = True

    def encode(self, labels: Labels, size: int) -> dict[str, np.ndarray]:
        """``boxes`` (P, 4) x0, y0, x1, y1 and ``keypoints`` (P, K, 3), in pixels.

        Boxes are clipped to the image; those of four pixels or less are left out. People without keypoints have 0, 0, 0
        for all.
        """
        none = np.zeros((len(labels.bare), *labels.joints.shape[1:]), np.float32)
        joints, boxes = np.concatenate([labels.joints, none]), np.concatenate([labels.boxes, labels.bare])
        boxes = boxes.astype(np.float32)
        corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).clip(0, size)
        seen = (corners[:, 2:] - corners[:, :2] > 4).all(1)
        return {"boxes": corners[seen], "keypoints": joints[seen]}


LITHE_HEAD = CropHead(COCO_17, COCO_17)
"""Head of lithe: COCO's joints at stride 4."""

FLIC_COORDINATES = CoordinateHead(FLIC_11, FLIC_11)
"""Head of debnath2018split's regression networks."""

COCO_INSTANCES = InstanceHead(COCO_17, COCO_17)
"""Head of hoang2020rcnn."""
