"""Maps -> people: peaks with sub-cell positions, limb scores, grouping. The exact inverse of ``training/targets.py``.

Nothing is enlarged: peaks are taken on the small maps and refined below a cell, and limbs are scored only between
peaks (the parabola through logarithms is exact for a Gaussian).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .image import from_cells
from .prior import complete
from .skeleton import Head

TOP = 64  # peaks kept a joint; also the fewest cells that a map can have (an input of 64x64 at stride 8)


@dataclass(frozen=True)
class Maps:
    """What a network says about one picture.

    Attributes:
        heatmaps: (K, h, w) float32.
        fields: (2 L, h, w) float32.
        peak_score: (K, T) float32, values of the largest maxima of 3x3 cells, descending, 0 where there are fewer.
        peak_cell: (K, T) integers, their flat index y * w + x.
    """

    heatmaps: np.ndarray
    fields: np.ndarray
    peak_score: np.ndarray
    peak_cell: np.ndarray

    @classmethod
    def from_arrays(cls, heatmaps: np.ndarray, fields: np.ndarray, top: int = TOP) -> Maps:
        """Find the peaks here, as the exported graphs do inside.

        Args:
            heatmaps: (K, h, w) float32.
            fields: (2 L, h, w) float32.
            top: peaks kept a joint, at most h * w.
        """
        k, h, w = heatmaps.shape
        padded = np.pad(heatmaps, ((0, 0), (1, 1), (1, 1)), constant_values=-np.inf)
        largest = np.max([padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)], 0)
        flat = np.where((heatmaps == largest) & (heatmaps > 0), heatmaps, 0).reshape(k, -1)
        cell = np.argsort(-flat, 1, kind="stable")[:, :top]
        return cls(heatmaps, fields, np.take_along_axis(flat, cell, 1), cell)


@dataclass(frozen=True)
class Found:
    """What a network without maps says about one picture: people, not evidence for them.

    Attributes:
        xy: (N, K, 2) float32, input pixels.
        score: (N, K) float32 in [0, 1].
        person_score: (N,) float32 in [0, 1].
    """

    xy: np.ndarray
    score: np.ndarray
    person_score: np.ndarray


@dataclass(frozen=True)
class DecodeConfig:
    """Thresholds of the decoder, for scores in [0, 1]."""

    peak: float = 0.18  # lowest heatmap value of a joint
    limb: float = 0.1  # lowest agreement of one sample along a limb with the field
    agree: float = 0.8  # share of a limb's samples that must reach it
    samples: int = 10  # along a limb
    joints: int = 4  # fewest joints of a person; half of them is enough where there are fewer than eight
    person: float = 0.0  # lowest score of a person, as decode returns it
    complete: bool = False  # guess the joints of a person that were not found, for COCO's joints


def peaks(maps: Maps, head: Head, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints' candidates with sub-cell positions.

    Along each axis the position is the top of the parabola through the logarithms of three values; at the edge of the
    map, where one is missing, the known sigma stands in for it.

    Returns:
        joint (M,) int, ascending; cells (M, 2) x, y; score (M,).
    """
    joint, rank = np.nonzero(maps.peak_score >= threshold)
    _, h, w = maps.heatmaps.shape
    y, x = np.divmod(maps.peak_cell[joint, rank], w)
    # Halfway between two cells both are the maximum: keep the first of them.
    first = np.ones(len(joint), bool)
    for dy, dx in ((-1, -1), (-1, 0), (-1, 1), (0, -1)):
        inside = (y + dy >= 0) & (x + dx >= 0) & (x + dx < w)
        first &= ~(inside & (maps.heatmaps[joint, y + dy, (x + dx) % w] >= maps.peak_score[joint, rank]))
    joint, rank, y, x = joint[first], rank[first], y[first], x[first]
    shifts = []
    for at, size, (dx, dy) in ((x, w, (1, 0)), (y, h, (0, 1))):
        before = maps.heatmaps[joint, np.maximum(y - dy, 0), np.maximum(x - dx, 0)]
        after = maps.heatmaps[joint, np.minimum(y + dy, h - 1), np.minimum(x + dx, w - 1)]
        lower, centre, upper = (np.log(np.maximum(v, 1e-6)) for v in (before, maps.peak_score[joint, rank], after))
        bend = lower + upper - 2 * centre
        shift = np.where(bend < -1e-6, (lower - upper) / (2 * np.minimum(bend, -1e-6)), 0.0)
        slope = head.sigma**2
        shift = np.where(at == 0, 0.5 - slope * (centre - upper), shift)
        shift = np.where(at == size - 1, slope * (centre - lower) - 0.5, shift)
        shifts.append(np.clip(shift, -0.5, 0.5))
    return joint, np.stack([x + shifts[0], y + shifts[1]], 1), maps.peak_score[joint, rank]


def score_limbs(
    maps: Maps, head: Head, joint: np.ndarray, cells: np.ndarray, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Agreement of the field with every pair of candidates that a limb could join.

    A pair counts if enough samples along it agree; its score is their mean, less a penalty for pairs longer than half
    the map's longer side, after OpenPose (Cao et al. 2017, section 2.3; its released code takes the height).

    Returns:
        first (E,), second (E,): indices of candidates; score (E,).
    """
    h, w = maps.fields.shape[1:]
    starts = np.searchsorted(joint, np.arange(len(head.skeleton) + 1))
    firsts, seconds, limbs = [], [], []
    for limb, (a, b) in enumerate(head.limbs):
        first, second = np.arange(starts[a], starts[a + 1]), np.arange(starts[b], starts[b + 1])
        firsts.append(np.repeat(first, len(second)))
        seconds.append(np.tile(second, len(first)))
        limbs.append(np.full(len(first) * len(second), limb))
    first, second, limb = np.concatenate(firsts), np.concatenate(seconds), np.concatenate(limbs)
    along = cells[second] - cells[first]
    length = np.maximum(np.hypot(along[:, 0], along[:, 1]), 1e-6)
    at = cells[first][:, None] + along[:, None] * np.linspace(0, 1, config.samples)[None, :, None]
    x = np.clip(np.rint(at[..., 0]), 0, w - 1).astype(np.intp)
    y = np.clip(np.rint(at[..., 1]), 0, h - 1).astype(np.intp)
    unit = along / length[:, None]
    agreement = (
        maps.fields[2 * limb[:, None], y, x] * unit[:, :1] + maps.fields[2 * limb[:, None] + 1, y, x] * unit[:, 1:]
    )
    score = agreement.mean(1) + np.minimum(0.5 * max(h, w) / length - 1, 0)
    good = ((agreement > config.limb).mean(1) >= config.agree) & (score > 0)
    return first[good], second[good], score[good]


def group(joint: np.ndarray, first: np.ndarray, second: np.ndarray, score: np.ndarray) -> list[dict[int, int]]:
    """Join candidates into people, the best limb of the whole picture first.

    Two groups are merged unless both have the same joint. Taking limbs by score, not by kind, lets a sure forearm
    decide before a doubtful neck.

    Returns:
        one dict (joint -> candidate) a person, for people of at least two joints.
    """
    person_of: dict[int, dict[int, int]] = {}
    order = np.argsort(-score, kind="stable")
    names = joint.tolist()
    for a, b in zip(first[order].tolist(), second[order].tolist(), strict=True):
        one = person_of.get(a) or {names[a]: a}
        two = person_of.get(b) or {names[b]: b}
        if one is two or not one.keys().isdisjoint(two):
            continue
        one.update(two)
        for candidate in one.values():
            person_of[candidate] = one
    return list({id(person): person for person in person_of.values()}.values())


def best_of_each(joint: np.ndarray) -> list[dict[int, int]]:
    """The one person of a network without limbs: the highest peak of every joint.

    Args:
        joint: (M,) as from :func:`peaks`, where a joint's candidates come highest first.

    Returns:
        as of :func:`group`; nobody where there is no peak.
    """
    names, first = np.unique(joint, return_index=True)
    return [dict(zip(names.tolist(), first.tolist(), strict=True))] if len(names) else []


def decode(
    maps: Maps | Found, head: Head, config: DecodeConfig | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of one picture -> its people, best first; a head without limbs is that of one person.

    Args:
        maps: of one picture, or the people that a network without maps found.
        head: what they mean.
        config: thresholds.

    Returns:
        xy (N, K', 2) float32 in input pixels, NaN where not found; score (N, K') float32; person score (N,) float32:
        the root mean square of its joints' scores, those not found being 0, or what the network said. K' is the output
        skeleton's. Squares rank a few sure joints above many doubtful ones.

    Raises:
        ValueError: joints are to be guessed on maps of a skeleton without a prior.
    """
    config = config or DecodeConfig()
    if isinstance(maps, Found):
        return _sure(maps.xy, maps.score, maps.person_score, config)
    joint, cells, joint_score = peaks(maps, head, config.peak)
    if head.limbs:
        first, second, limb_score = score_limbs(maps, head, joint, cells, config)
        people = group(joint, first, second, limb_score)
    else:
        people = best_of_each(joint)
    n, k = len(people), len(head.skeleton)
    xy, score = np.full((n, k, 2), np.nan, np.float32), np.zeros((n, k), np.float32)
    pixels = from_cells(cells, head.stride)
    for row, person in enumerate(people):
        which, candidates = list(person), list(person.values())
        xy[row, which], score[row, which] = pixels[candidates], joint_score[candidates]
    xy, score = xy[:, list(head.output_order)], np.minimum(score[:, list(head.output_order)], 1)
    xy, score, person_score = _sure(xy, score, np.sqrt((score**2).mean(1)), config)
    if config.complete:
        xy, score = complete(xy, score, maps.heatmaps, head, config.peak)
    return xy, score, person_score


def _sure(
    xy: np.ndarray, score: np.ndarray, person_score: np.ndarray, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out joints and people below the thresholds; the best person first."""
    found = score >= config.peak
    if config.complete:  # a network without maps answers for all joints, however unsure
        score = np.where(np.isnan(xy[..., 0]), 0, np.maximum(score, config.peak / 20))
    else:
        xy, score = np.where(found[..., None], xy, np.nan), np.where(found, score, 0)
    keep = (found.sum(1) >= min(config.joints, -(-score.shape[1] // 2))) & (person_score >= config.person)
    order = np.flatnonzero(keep)[np.argsort(-person_score[keep], kind="stable")]
    return xy[order], score[order], person_score[order]
