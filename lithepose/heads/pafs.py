"""Heatmaps and part affinity fields of all people in an image, with unit vectors along every limb."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Self

import numpy as np

from ..arrays import Float, Float32
from ..errors import ConfigError
from ..geometry import to_cells
from ..skeleton import COCO_17, COCO_18, OPENPOSE_18, Skeleton
from .base import DecodeConfig
from .grouping import group, score_limbs, short_limbs
from .heatmaps import HeatmapHead
from .labels import Labels
from .outputs import Maps


@dataclass(frozen=True)
class PafHead(HeatmapHead):
    """One heatmap per joint, and one part affinity field with two channels per limb.

    Attributes:
        limbs: directed pairs (a, b) of joint indices; limb i has channels 2i (x) and 2i + 1 (y).
        limb_width: half the width of a limb in the field, in cells.
    """

    limbs: tuple[tuple[int, int], ...] = ()
    limb_width: float = 1.0

    single_person: ClassVar[bool] = False

    @property
    def channels(self) -> tuple[int, int]:
        """Number of (heatmap, part affinity field) channels."""
        return len(self.skeleton) + self.background, 2 * len(self.limbs)

    def with_skeleton(self, skeleton: Skeleton) -> Self:
        """Return the same kind of output for other joints; limbs are the skeleton's edges.

        Raises:
            ConfigError: the edges do not connect all joints.
        """
        if not skeleton.edges:
            raise ConfigError(
                f"skeleton {skeleton.name}: has no edges, which are needed to find people; for one person per image,"
                " use context_cpm"
            )
        joined, more = {0}, True
        while more:
            more = [b for pair in skeleton.edges for a, b in (pair, pair[::-1]) if a in joined and b not in joined]
            joined.update(more)
        if len(joined) < len(skeleton):
            loose = ", ".join(joint for i, joint in enumerate(skeleton.joints) if i not in joined)
            raise ConfigError(
                f"skeleton {skeleton.name}: its edges do not connect {loose} to {skeleton.joints[0]}; people are found"
                " by limbs, so all joints must be connected"
            )
        return replace(self, skeleton=skeleton, output=skeleton, limbs=skeleton.edges)

    def encode(self, labels: Labels, size: int) -> dict[str, np.ndarray]:
        """As :class:`HeatmapHead`, with ``pafs`` (2 L, s, s) float32 and ``paf_mask`` (L, s, s) bool."""
        cells = size // self.stride
        pafs = part_affinity_fields(labels.joints, self, cells, cells)
        a, b = self.limb_ends
        mask = self.mask(labels, cells, labels.unsure[:, a] | labels.unsure[:, b], len(self.limbs))
        mask |= (pafs.reshape(-1, 2, cells, cells) != 0).any(1)
        return super().encode(labels, size) | {"pafs": pafs, "paf_mask": mask}

    def group(self, maps: Maps, joint: np.ndarray, cells: np.ndarray, config: DecodeConfig) -> list[list[int]]:
        """Return the candidates of every person, joined by limbs; limbs that are too long are removed and regrouped."""
        limb, first, second, score = score_limbs(maps, self, joint, cells, config)
        people = group(joint, limb, first, second, score, self, config.by_limb)
        short = short_limbs(cells, limb, first, second, people, self)
        if not short.all():
            limb, first, second, score = limb[short], first[short], second[short], score[short]
            people = group(joint, limb, first, second, score, self, config.by_limb)
        return people

    def check_flip(self) -> None:
        """Raise ValueError if a limb has no mirror image among the limbs."""
        _ = self.limb_flip_order

    def unmirrored_pafs(self, pafs: np.ndarray) -> np.ndarray:
        """Flip the fields of a mirrored input back; the x components change sign."""
        turned = pafs.reshape(-1, 2, *pafs.shape[1:])[list(self.limb_flip_order), :, :, ::-1]
        sign = np.array(self.limb_flip_sign, np.float32).reshape(-1, 1, 1, 1)
        return (turned * sign * np.array([-1, 1], np.float32)[:, None, None]).reshape(pafs.shape)

    @property
    def limb_ends(self) -> np.ndarray:
        """(2, L) joints at the ends of the limbs."""
        return np.array(self.limbs, int).reshape(-1, 2).T

    @cached_property
    def limb_flip_order(self) -> tuple[int, ...]:
        """Limb i of the mirrored image is limb ``limb_flip_order[i]`` of the original, except for its direction.

        Raises:
            ConfigError: a limb has no mirror image among the limbs; names it.
        """
        index = {frozenset(limb): i for i, limb in enumerate(self.limbs)}
        for limb, mirrored in zip(self.limbs, self._mirrored_limbs, strict=True):
            if frozenset(mirrored) not in index:
                (a, b), (c, d) = ([self.skeleton.joints[i] for i in pair] for pair in (limb, mirrored))
                name = self.skeleton.name
                raise ConfigError(
                    f"flip cannot be used: {name} has a limb from {a} to {b}, but no mirrored limb from {c} to {d}"
                )
        return tuple(index[frozenset(limb)] for limb in self._mirrored_limbs)

    @cached_property
    def limb_flip_sign(self) -> tuple[int, ...]:
        """-1 where limb i of the mirrored image is opposite to limb ``limb_flip_order[i]`` of the original, else 1.

        It is also -1 for a limb from a left joint to its right counterpart.
        """
        pairs = zip(self._mirrored_limbs, self.limb_flip_order, strict=True)
        return tuple(1 if self.limbs[i] == limb else -1 for limb, i in pairs)

    @property
    def _mirrored_limbs(self) -> list[tuple[int, int]]:
        swap = self.skeleton.flip_order
        return [(swap[a], swap[b]) for a, b in self.limbs]


def _limbs(skeleton: Skeleton, text: str) -> tuple[tuple[int, int], ...]:
    index = {joint: i for i, joint in enumerate(skeleton.joints)}
    return tuple((index[a], index[b]) for a, b in (pair.split(">") for pair in text.split()))


# The nineteen limbs of OpenPose's COCO model, trunk and limbs first. The last two only add missing joints.
_OPENPOSE_LIMBS = (
    "neck>right_hip right_hip>right_knee right_knee>right_ankle neck>left_hip left_hip>left_knee left_knee>left_ankle"
    " neck>right_shoulder right_shoulder>right_elbow right_elbow>right_wrist right_shoulder>right_ear"
    " neck>left_shoulder left_shoulder>left_elbow left_elbow>left_wrist left_shoulder>left_ear"
    " neck>nose nose>right_eye nose>left_eye right_eye>right_ear left_eye>left_ear"
)

COCO_HEAD = PafHead(COCO_18, COCO_17, limbs=_limbs(COCO_18, _OPENPOSE_LIMBS))
"""Head of lithe_paf: 18 heatmaps and 19 part affinity fields at stride 8, results in COCO-17."""

OPENPOSE_HEAD = PafHead(OPENPOSE_18, COCO_17, sigma=7 / 8, background=True, limbs=_limbs(OPENPOSE_18, _OPENPOSE_LIMBS))
"""Head of choi2018binarized and huang2019mln: OpenPose's joints and a background, results in COCO-17."""


def part_affinity_fields(
    joints: Float[np.ndarray, "p k 3"], head: PafHead, height: int, width: int
) -> Float32[np.ndarray, "l2 h w"]:
    """Draw unit vectors from a to b along every limb with two labelled joints, averaged where people overlap.

    A cell belongs to a limb if it lies within ``head.limb_width`` of the segment's line and inside the segment's
    bounding box, grown by the same width.

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
