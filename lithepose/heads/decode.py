"""Maps -> people: peaks with sub-cell positions, limb scores, grouping. The exact inverse of ``training/targets.py``.

Nothing is enlarged: peaks are taken on the small maps and refined below a cell, and limbs are scored only between
peaks (the parabola through logarithms is exact for a Gaussian).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..geometry import from_cells
from ..skeleton import Head
from .outputs import Boxes, Found, Maps
from .pose_prior import PosePrior, complete

TOO_LONG = 2.2  # times the second longest of a person's other limbs, in lengths of the mean pose


Output = Maps | Found | Boxes


@dataclass(frozen=True)
class DecodeConfig:
    """Thresholds of the decoder, for scores in [0, 1]."""

    peak: float = 0.18  # lowest heatmap value of a joint
    limb: float = 0.1  # lowest agreement of one sample along a limb with the field
    agree: float = 0.8  # share of a limb's samples that must reach it
    samples: int = 10  # along a limb
    joints: int = 4  # fewest joints of a person; half of them is enough where there are fewer than eight
    person: float = 0.0  # lowest score of a person, as decode returns it
    by_limb: bool = False  # group limb by limb as OpenPose does, not the best limb of the image first
    complete: bool = False  # guess the joints of a person that were not found, for COCO's joints

    @property
    def guessed(self) -> float:
        """Score below which a joint is a guess; those of guesses are below half of it."""
        return self.peak if self.complete else 0.0


# Neighbours of a cell, x and y: those before it in the map, itself, right of it and below.
_AROUND = np.array([(-1, -1), (0, -1), (1, -1), (-1, 0), (0, 0), (1, 0), (0, 1)])


def peaks(maps: Maps, head: Head, threshold: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Joints' candidates with sub-cell positions.

    Along each axis the position is the top of the parabola through the logarithms of three values; at the edge of the
    map, where one is missing, the known sigma stands in for it.

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
    # Halfway between two cells both are the maximum: keep the first of them. At an edge near may be the peak itself.
    first = ~((value[:, :4] >= value[:, 4:5]) & (near[:, :4] < near[:, 4:5])).any(1)
    joint, x, y, value = joint[first], x[first], y[first], value[first]
    lower, centre, upper = np.log(np.maximum(value[:, [3, 1, 4, 4, 5, 6]], 1e-6)).reshape(-1, 3, 2).swapaxes(0, 1)
    bend = np.minimum(lower + upper - 2 * centre, -1e-6)
    shift = (lower - upper) / (2 * bend)
    at, last, slope = np.array([x, y]).T, (w - 1, h - 1), head.sigma**2
    shift = np.where(at == 0, 0.5 - slope * (centre - upper), shift)
    shift = np.where(at == last, slope * (centre - lower) - 0.5, shift)
    return joint, at + np.minimum(np.maximum(shift, -0.5), 0.5), value[:, 4]


def score_limbs(
    maps: Maps, head: Head, joint: np.ndarray, cells: np.ndarray, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Agreement of the field with every pair of candidates that a limb could join.

    A pair counts if enough samples along it agree; its score is their mean, less a penalty for pairs longer than half
    the map's longer side, after OpenPose (Cao et al. 2017, section 2.3; its released code takes the height).

    Returns:
        limb (E,), first (E,), second (E,): number of the limb, ascending, and indices of its candidates; score (E,).
    """
    h, w = maps.fields.shape[1:]
    starts = np.searchsorted(joint, np.arange(len(head.skeleton) + 1))
    counts, (one, two) = starts[1:] - starts[:-1], head.limb_ends
    pairs = counts[one] * counts[two]
    limb = np.repeat(np.arange(len(pairs)), pairs)
    within = np.arange(len(limb)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    row = within // counts[two][limb]
    first, second = starts[one][limb] + row, starts[two][limb] + within - row * counts[two][limb]
    # Of many people few pairs agree. Where too many samples in the middle fail, the others are not computed.
    cells = np.minimum(np.maximum(cells, 0), (w - 1, h - 1)).astype(np.float32)
    share = np.arange(config.samples, dtype=np.float32) / max(config.samples - 1, 1)
    failures = config.samples - math.ceil(config.agree * config.samples - 1e-6)
    if len(limb) > 256 and failures < config.samples:
        middle = share[(config.samples - failures - 1) // 2 :][: failures + 1]
        good = (_agreement(maps.fields, limb, cells, first, second, middle)[0] > config.limb).any(0)
        limb, first, second = limb[good], first[good], second[good]
    agreement, length = _agreement(maps.fields, limb, cells, first, second, share)
    score = agreement.sum(0) / config.samples + np.minimum(0.5 * max(h, w) / length - 1, 0)
    good = ((agreement <= config.limb).sum(0) <= failures) & (score > 0)
    return limb[good], first[good], second[good], score[good]


def _agreement(
    fields: np.ndarray, limb: np.ndarray, cells: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The field's part along every pair at some shares of the way, (S, E), and the pairs' lengths in cells, (E,)."""
    _, h, w = fields.shape
    start = cells[first]
    (x, y), (x0, y0) = (cells[second] - start).T, (start + np.float32(0.5)).T  # rounds to the nearest, being positive
    length = np.maximum(np.sqrt(x * x + y * y), np.float32(1e-6))
    index = (share[:, None] * y + y0).astype(np.intp) * w
    index += (share[:, None] * x + x0).astype(np.intp)
    index += 2 * h * w * limb
    flat = fields.reshape(-1)
    agreement = flat.take(index) * (x / length)
    index += h * w
    return agreement + flat.take(index) * (y / length), length


def group(
    joint: np.ndarray,
    limb: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    score: np.ndarray,
    head: Head,
    by_limb: bool = False,
) -> list[list[int]]:
    """Join candidates into people, the best limb of the whole image first, as huang2019mln groups.

    Two groups are merged unless both have the same joint. Taking limbs by score, not by kind, lets a sure forearm
    decide before a doubtful neck.

    Args:
        joint: (M,) of every candidate.
        limb: this and the next three as :func:`score_limbs` returns them.
        first: likewise.
        second: likewise.
        score: likewise.
        head: its limbs.
        by_limb: OpenPose's order instead: kind after kind, in the order of the head, each one's best first; its ears
            from the shoulders after the others, only to add what is missing.

    Returns:
        the candidates of every person, for people of at least two joints.
    """
    spare = np.array(_spare(head) if by_limb else [False] * len(head.limbs))[limb]
    order = np.lexsort((-score, limb, spare)) if by_limb else np.argsort(-score, kind="stable")
    person_of, members = list(range(len(joint))), [[c] for c in range(len(joint))]
    has = [1 << k for k in joint.tolist()]
    for a, b, adds in zip(first[order].tolist(), second[order].tolist(), spare[order].tolist(), strict=True):
        one, two = person_of[a], person_of[b]
        if one == two or has[one] & has[two] or (adds and (len(members[one]) == 1 or len(members[two]) > 1)):
            continue
        has[one] |= has[two]
        members[one] += members[two]
        for candidate in members[two]:
            person_of[candidate] = one
        members[two] = []
    return [candidates for candidates in members if len(candidates) > 1]


def short_limbs(
    cells: np.ndarray, limb: np.ndarray, first: np.ndarray, second: np.ndarray, people: list[list[int]], head: Head
) -> np.ndarray:
    """Which limbs are not far longer than the others of their person.

    A limb is too long if it measures more than :data:`TOO_LONG` times the second longest of the person's others, both
    in pixels and, where a mean pose is known, in units of what each limb measures there.

    Args:
        cells: (M, 2) candidates.
        limb: (E,) as :func:`score_limbs` returns it, and the next two.
        first: likewise.
        second: likewise.
        people: as :func:`group` returns them.
        head: its limbs.

    Returns:
        (E,) bool; limbs between people, and those of people of fewer than four limbs, count as short.
    """
    person_of = np.full(len(cells), -1)
    for number, candidates in enumerate(people):
        person_of[candidates] = number
    pixels = np.hypot(*(cells[second] - cells[first]).T)
    short = np.ones(len(limb), bool)
    within = np.flatnonzero((person_of[first] == person_of[second]) & (person_of[first] >= 0))
    for number in range(len(people)):
        mine = within[person_of[first[within]] == number]
        if len(mine) >= 4:
            short[mine] = ~(_sticks_out(pixels[mine]) & _sticks_out((pixels / _limb_units(head)[limb])[mine]))
    return short


def _sticks_out(length: np.ndarray) -> np.ndarray:
    """(E,) bool: which lengths are far above the second longest of the others."""
    ordered = np.sort(length)
    second_longest = np.where(length >= ordered[-2], ordered[-3], ordered[-2])
    return length > TOO_LONG * np.maximum(second_longest, 1e-6)


@cache
def _limb_units(head: Head) -> np.ndarray:
    """(L,) lengths of a head's limbs in the mean pose; ones where none is known."""
    if not PosePrior.known(head.output):
        return np.ones(len(head.limbs))
    at = dict(zip(head.output.joints, PosePrior.of(head.output).mean, strict=True))
    at |= {"neck": (at["left_shoulder"] + at["right_shoulder"]) / 2}
    ends = np.array([[at[head.skeleton.joints[end]] for end in limb] for limb in head.limbs])
    return np.hypot(*(ends[:, 1] - ends[:, 0]).T)


@cache
def _spare(head: Head) -> list[bool]:
    """Which limbs only add what is missing: of those that end in the same joint all but the last.

    If the others are a tree with limbs that point outwards, as in OpenPose; in other skeletons all join alike.
    """
    ends = [b for _, b in head.limbs]
    spare = [b in ends[i + 1 :] for i, b in enumerate(ends)]
    limbs = [limb for limb, one in zip(head.limbs, spare, strict=True) if not one]
    reached = set(range(len(head.skeleton))) - set(ends)
    if len(reached) == 1:
        for _ in limbs:
            reached |= {b for a, b in limbs if a in reached}
    return spare if len(reached) == len(head.skeleton) else [False] * len(ends)


def best_of_each(joint: np.ndarray) -> list[list[int]]:
    """The one person of a network without limbs: the highest peak of every joint.

    Args:
        joint: (M,) as from :func:`peaks`, where a joint's candidates come highest first.

    Returns:
        as of :func:`group`; empty without a peak.
    """
    return [np.unique(joint, return_index=True)[1].tolist()] if len(joint) else []


def decode(
    maps: Maps | Found, head: Head, config: DecodeConfig | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps of one image -> its people, best first; a head without limbs is that of one person.

    Args:
        maps: of one image, or the people that a network without maps found.
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
        return _best(*_sure(maps.xy, maps.score, config), maps.person_score, config)
    joint, cells, joint_score = peaks(maps, head, config.peak)
    if head.limbs:
        limb, first, second, limb_score = score_limbs(maps, head, joint, cells, config)
        people = group(joint, limb, first, second, limb_score, head, config.by_limb)
        short = short_limbs(cells, limb, first, second, people, head)
        if not short.all():
            limb, first, second, limb_score = limb[short], first[short], second[short], limb_score[short]
            people = group(joint, limb, first, second, limb_score, head, config.by_limb)
    else:
        people = best_of_each(joint)
    n, k = len(people), len(head.skeleton)
    xy, score = np.full((n, k, 2), np.nan, np.float32), np.zeros((n, k), np.float32)
    candidate = np.array([c for person in people for c in person], np.intp)
    place = np.repeat(np.arange(n), [len(person) for person in people]), joint[candidate]
    xy[place], score[place] = from_cells(cells[candidate], head.stride), joint_score[candidate]
    order = np.array(head.output_order)
    xy, score = xy.take(order, 1), np.minimum(score.take(order, 1), 1)
    xy, score, person_score = _best(xy, score, np.sqrt((score * score).sum(1) / len(order)), config)
    if config.complete:
        xy, score = complete(xy, score, maps.heatmaps, head, config.peak)
    return xy, score, person_score


def _sure(xy: np.ndarray, score: np.ndarray, config: DecodeConfig) -> tuple[np.ndarray, np.ndarray]:
    """Leave out the joints that a network without maps is not sure of; it answers for all, if guesses are wanted."""
    if config.complete:
        guess = np.clip(score, config.peak / 20, config.peak / 2)
        return xy, np.where(np.isnan(xy[..., 0]), 0, np.where(score >= config.peak, score, guess))
    found = score >= config.peak
    return np.where(found[..., None], xy, np.nan), np.where(found, score, 0)


def _best(
    xy: np.ndarray, score: np.ndarray, person_score: np.ndarray, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Leave out people below the thresholds; the best first."""
    joints = min(config.joints, -(-score.shape[1] // 2))
    keep = np.flatnonzero(((score >= config.peak).sum(1) >= joints) & (person_score >= config.person))
    order = keep[np.argsort(-person_score[keep], kind="stable")]
    return xy[order], score[order], person_score[order]
