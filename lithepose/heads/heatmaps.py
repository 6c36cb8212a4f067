"""Heatmaps of one person per image: a Gaussian at every joint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from ..arrays import Float, Float32, Int
from ..geometry import Letterbox, PersonCrop, from_cells, to_cells
from ..skeleton import FLIC_11, LIP_16
from .base import DecodeConfig, Head, keep_people
from .labels import Labels
from .outputs import Maps
from .pose_prior import complete

CUT = 4.6052  # larger exponents (values below 0.01) give 0, as in OpenPose's trainer


@dataclass(frozen=True)
class HeatmapHead(Head[Maps]):
    """One heatmap per joint.

    Attributes:
        stride: input pixels per map cell. The centre of cell g is pixel ``g * stride + stride / 2 - 0.5``.
        sigma: standard deviation of a joint's Gaussian, in cells.
        background: the last heatmap is the background (1 minus the largest of the others), as in OpenPose.
    """

    stride: int = 8
    sigma: float = 1.0
    background: bool = False

    @property
    def cell(self) -> int:
        """The stride."""
        return self.stride

    @property
    def channels(self) -> tuple[int, int]:
        """Number of (heatmap, part affinity field) channels."""
        return len(self.skeleton) + self.background, 0

    def encode(self, labels: Labels, size: int) -> dict[str, np.ndarray]:
        """``heatmaps`` (K, s, s) float32 and ``heatmap_mask`` (K, s, s) bool, with s = size / stride.

        K includes the background if there is one. A channel is masked where its label is unsure and missing: everywhere
        for a single person, otherwise inside the person's box, because others around it may be labelled.
        """
        cells = size // self.stride
        heat = heatmaps(labels.joints, self, cells, cells)
        mask = self.mask(labels, cells, labels.unsure, len(heat)) | (heat > 0.05)
        if self.background:
            heat = np.concatenate([heat, 1 - heat.max(0, keepdims=True)])
            mask = np.concatenate([mask, mask.all(0, keepdims=True)])
        return {"heatmaps": heat, "heatmap_mask": mask}

    def mask(self, labels: Labels, cells: int, unsure: np.ndarray, channels: int) -> np.ndarray:
        """Return (channels, cells, cells) bool: False in ignored regions and for unsure channels (P, C) of people."""
        mask = np.ones((channels, cells, cells), bool)
        for box in labels.ignore:
            mask[:, *cells_of(box, self.stride, cells)] = False
        for box, doubtful in zip(labels.boxes, unsure, strict=True):
            if doubtful.any():
                inside = (slice(None),) * 2 if self.single_person else cells_of(box, self.stride, cells)
                mask[doubtful, *inside] = False
        return mask

    def decode(self, output: Maps, config: DecodeConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """As :meth:`Head.decode`.

        The person score is the root mean square of the joints' scores, with 0 for joints not found. Squares rank a few
        certain joints above many doubtful ones.

        Raises:
            ConfigError: ``config.complete`` is set, but there is no pose prior for the joints.
        """
        joint, cells, joint_score = peaks(output, self, config.peak)
        people = self.group(output, joint, cells, config)
        n, k = len(people), len(self.skeleton)
        xy, score = np.full((n, k, 2), np.nan, np.float32), np.zeros((n, k), np.float32)
        candidate = np.array([c for person in people for c in person], np.intp)
        place = np.repeat(np.arange(n), [len(person) for person in people]), joint[candidate]
        xy[place], score[place] = from_cells(cells[candidate], self.stride), joint_score[candidate]
        order = np.array(self.output_order)
        xy, score = xy.take(order, 1), np.minimum(score.take(order, 1), 1)
        xy, score, person_score = keep_people(xy, score, np.sqrt((score * score).sum(1) / len(order)), config)
        if config.complete:
            heat = output.heatmaps[order]
            xy, score = complete(xy, score, heat, self.output, self.stride, config.peak)
        return xy, score, person_score

    def group(self, maps: Maps, joint: np.ndarray, cells: np.ndarray, config: DecodeConfig) -> list[list[int]]:
        """Return the candidates of every person. A single person gets the highest peak of every joint.

        Args:
            maps: maps of the image.
            joint: (M,) as returned by :func:`peaks`, where a joint's candidates are sorted by height, descending.
            cells: (M, 2) positions of the candidates.
            config: thresholds.
        """
        return [np.unique(joint, return_index=True)[1].tolist()] if len(joint) else []

    def unmirror(self, output: Maps, width: int) -> Maps:
        """As :meth:`Head.unmirror`."""
        heat = np.ascontiguousarray(output.heatmaps[list(self.skeleton.flip_order), :, ::-1])
        return Maps.from_arrays(heat, self.unmirrored_pafs(output.pafs))

    def unmirrored_pafs(self, pafs: np.ndarray) -> np.ndarray:
        """Flip part affinity fields of a mirrored input back; there are none here."""
        return pafs

    def average(self, views: Sequence[tuple[Maps, Letterbox | PersonCrop]]) -> Maps:
        """As :meth:`Head.average`, on the grid of the first view."""
        first, target = views[0]
        shape = first.heatmaps.shape[1:]
        heat, pafs = np.zeros_like(first.heatmaps), np.zeros_like(first.pafs)
        for maps, source in views:
            heat += resample(maps.heatmaps, source, target, shape, self.stride)
            pafs += resample(maps.pafs, source, target, shape, self.stride)
        top = min(first.peak_score.shape[1], shape[0] * shape[1])
        return Maps.from_arrays(heat / len(views), pafs / len(views), top)


LIP_HEAD = HeatmapHead(LIP_16, LIP_16, sigma=7 / 8, background=True)
"""Head of osokin2019context, one person: LIP's joints and a background."""

FLIC_HEAD = HeatmapHead(FLIC_11, FLIC_11, stride=4, sigma=1.5)
"""Head of debnath2018split, upper body of one person. The paper gives no sigma; 1.5 cells are 6 input pixels."""


def heatmaps(
    joints: Float[np.ndarray, "p k 3"], head: HeatmapHead, height: int, width: int
) -> Float32[np.ndarray, "k h w"]:
    """Draw Gaussians at every labelled joint; where people overlap, the larger value is kept.

    Args:
        joints: (P, K, 3) in input pixels.
        head: supplies sigma and stride.
        height: height of the map in cells.
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


# Neighbours of a cell, x and y: those before it in the map, itself, right of it and below.
_AROUND = np.array([(-1, -1), (0, -1), (1, -1), (-1, 0), (0, 0), (1, 0), (0, 1)])


def peaks(
    maps: Maps, head: HeatmapHead, threshold: float
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, "m 2"], Float[np.ndarray, " m"]]:
    """Return joint candidates with sub-cell positions.

    Along each axis the position is the maximum of the parabola through the logarithms of three values. At the edge of
    the map, where one value is missing, the position follows from the known sigma.

    Returns:
        joint (M,) int, ascending; cells (M, 2) x, y; score (M,).
    """
    joint, rank = np.nonzero(maps.peak_score >= threshold)
    _, h, w = maps.heatmaps.shape
    cell = maps.peak_cell[joint, rank]
    y = cell // w
    x = cell - y * w
    near = np.minimum(np.maximum(y[:, None] + _AROUND[:, 1], 0), h - 1) * w
    near += np.minimum(np.maximum(x[:, None] + _AROUND[:, 0], 0), w - 1)
    value = maps.heatmaps.reshape(-1).take((joint * (h * w))[:, None] + near)
    # Between two equal cells both are maxima: keep the first. At an edge, near may be the peak itself.
    first = ~((value[:, :4] >= value[:, 4:5]) & (near[:, :4] < near[:, 4:5])).any(1)
    joint, x, y, value = joint[first], x[first], y[first], value[first]
    lower, centre, upper = np.log(np.maximum(value[:, [3, 1, 4, 4, 5, 6]], 1e-6)).reshape(-1, 3, 2).swapaxes(0, 1)
    bend = np.minimum(lower + upper - 2 * centre, -1e-6)
    shift = (lower - upper) / (2 * bend)
    at, last, slope = np.array([x, y]).T, (w - 1, h - 1), head.sigma**2
    shift = np.where(at == 0, 0.5 - slope * (centre - upper), shift)
    shift = np.where(at == last, slope * (centre - lower) - 0.5, shift)
    return joint, at + np.minimum(np.maximum(shift, -0.5), 0.5), value[:, 4]


def resample(
    maps: Float32[np.ndarray, "c h w"],
    source: Letterbox | PersonCrop,
    target: Letterbox | PersonCrop,
    shape: tuple[int, int],
    stride: int,
) -> Float32[np.ndarray, "c h2 w2"]:
    """Resample maps (C, h, w) to (C, *shape), the grid of another input of the same image, with cubic interpolation."""
    if source == target and maps.shape[1:] == shape:
        return maps
    # Both mappings are scalings and shifts, so two points of the target grid determine their combination.
    ends = np.array([[0.0, 0.0], [1.0, 1.0]])
    there = to_cells(source.to_input(target.to_image(from_cells(ends, stride))), stride)
    scale, shift = there[1] - there[0], there[0]
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = shape[1], shape[0]
    out = [cv2.warpAffine(m, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for m in maps]
    return np.stack(out) if out else np.empty((0, *shape), np.float32)


def cells_of(box: np.ndarray, stride: int, cells: int) -> tuple[slice, slice]:
    """Return rows and columns of a box x, y, w, h, grown by one cell."""
    x0, y0 = np.clip(np.floor(box[:2] / stride) - 1, 0, cells).astype(int)
    x1, y1 = np.clip(np.ceil((box[:2] + box[2:]) / stride) + 1, 0, cells).astype(int)
    return slice(y0, y1), slice(x0, x1)
