"""Grouping of joint candidates into people, by limb scores from part affinity fields.

Nothing is upsampled: limbs are scored only between peaks of the small maps.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Protocol

import numpy as np

from ..skeleton import Skeleton
from .base import DecodeConfig
from .outputs import Maps
from .pose_prior import PosePrior

TOO_LONG = 2.2  # limit relative to the second longest of a person's other limbs, in lengths of the mean pose


class Limbs(Protocol):
    """The properties of a head that grouping needs."""

    @property
    def skeleton(self) -> Skeleton:
        """Joints of the candidates."""
        ...

    @property
    def output(self) -> Skeleton:
        """Joints of the results."""
        ...

    @property
    def limbs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of joint indices."""
        ...

    @property
    def limb_ends(self) -> np.ndarray:
        """(2, L) joints at the ends of the limbs."""
        ...


def score_limbs(
    maps: Maps, head: Limbs, joint: np.ndarray, cells: np.ndarray, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Score every pair of candidates that a limb could join, by agreement with the part affinity field.

    A pair is kept if enough samples on it agree. Its score is their mean, minus a penalty for pairs longer than half
    of the map's longer side, after OpenPose (Cao et al. 2017, section 2.3; its released code uses the height).

    Returns:
        limb (E,), first (E,), second (E,): index of the limb, ascending, and indices of its candidates; score (E,).
    """
    h, w = maps.pafs.shape[1:]
    starts = np.searchsorted(joint, np.arange(len(head.skeleton) + 1))
    counts, (one, two) = starts[1:] - starts[:-1], head.limb_ends
    pairs = counts[one] * counts[two]
    limb = np.repeat(np.arange(len(pairs)), pairs)
    within = np.arange(len(limb)) - np.repeat(np.cumsum(pairs) - pairs, pairs)
    row = within // counts[two][limb]
    first, second = starts[one][limb] + row, starts[two][limb] + within - row * counts[two][limb]
    # With many people few pairs agree. If too many samples in the middle fail, the others are not computed.
    cells = np.minimum(np.maximum(cells, 0), (w - 1, h - 1)).astype(np.float32)
    share = np.arange(config.samples, dtype=np.float32) / max(config.samples - 1, 1)
    failures = config.samples - math.ceil(config.agree * config.samples - 1e-6)
    if len(limb) > 256 and failures < config.samples:
        middle = share[(config.samples - failures - 1) // 2 :][: failures + 1]
        good = (_agreement(maps.pafs, limb, cells, first, second, middle)[0] > config.limb).any(0)
        limb, first, second = limb[good], first[good], second[good]
    agreement, length = _agreement(maps.pafs, limb, cells, first, second, share)
    score = agreement.sum(0) / config.samples + np.minimum(0.5 * max(h, w) / length - 1, 0)
    good = ((agreement <= config.limb).sum(0) <= failures) & (score > 0)
    return limb[good], first[good], second[good], score[good]


def _agreement(
    pafs: np.ndarray, limb: np.ndarray, cells: np.ndarray, first: np.ndarray, second: np.ndarray, share: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the field's component along each pair at some fractions of it, (S, E), and lengths in cells (E,)."""
    _, h, w = pafs.shape
    start = cells[first]
    (x, y), (x0, y0) = (cells[second] - start).T, (start + np.float32(0.5)).T  # rounds, because it is positive
    length = np.maximum(np.sqrt(x * x + y * y), np.float32(1e-6))
    index = (share[:, None] * y + y0).astype(np.intp) * w
    index += (share[:, None] * x + x0).astype(np.intp)
    index += 2 * h * w * limb
    flat = pafs.reshape(-1)
    agreement = flat.take(index) * (x / length)
    index += h * w
    return agreement + flat.take(index) * (y / length), length


def group(
    joint: np.ndarray,
    limb: np.ndarray,
    first: np.ndarray,
    second: np.ndarray,
    score: np.ndarray,
    head: Limbs,
    by_limb: bool = False,
) -> list[list[int]]:
    """Join candidates into people, the best limb of the whole image first, as in huang2019mln.

    Two groups are merged unless they share a joint. Limbs are taken by score and not by kind, so that a forearm with a
    high score decides before a neck with a low one.

    Args:
        joint: (M,) joint of every candidate.
        limb: this and the next three as returned by :func:`score_limbs`.
        first: likewise.
        second: likewise.
        score: likewise.
        head: supplies the limbs.
        by_limb: use OpenPose's order: by kind in the order of the head, the best of each kind first. Its limbs from
            shoulders to ears come last and only add missing joints.

    Returns:
        the candidates of every person with at least two joints.
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
    cells: np.ndarray, limb: np.ndarray, first: np.ndarray, second: np.ndarray, people: list[list[int]], head: Limbs
) -> np.ndarray:
    """Return which limbs are not much longer than the others of their person.

    A limb is too long if it is more than :data:`TOO_LONG` times as long as the second longest of the person's other
    limbs, in pixels and, if a mean pose is known, also in units of the limb's length there.

    Args:
        cells: (M, 2) candidates.
        limb: (E,) as returned by :func:`score_limbs`, like the next two.
        first: likewise.
        second: likewise.
        people: as returned by :func:`group`.
        head: supplies the limbs.

    Returns:
        (E,) bool; limbs between people, and limbs of people with fewer than four, count as short.
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
def _limb_units(head: Limbs) -> np.ndarray:
    """(L,) lengths of a head's limbs in the mean pose; ones if no mean pose is known."""
    if not PosePrior.known(head.output):
        return np.ones(len(head.limbs))
    at = dict(zip(head.output.joints, PosePrior.of(head.output).mean, strict=True))
    at |= {"neck": (at["left_shoulder"] + at["right_shoulder"]) / 2}
    ends = np.array([[at[head.skeleton.joints[end]] for end in limb] for limb in head.limbs])
    return np.hypot(*(ends[:, 1] - ends[:, 0]).T)


@cache
def _spare(head: Limbs) -> list[bool]:
    """Which limbs only add missing joints: of the limbs that end in the same joint, all but the last.

    This requires that the other limbs are a tree that points outwards, as in OpenPose. Otherwise no limb is spare.
    """
    ends = [b for _, b in head.limbs]
    spare = [b in ends[i + 1 :] for i, b in enumerate(ends)]
    limbs = [limb for limb, one in zip(head.limbs, spare, strict=True) if not one]
    reached = set(range(len(head.skeleton))) - set(ends)
    if len(reached) == 1:
        for _ in limbs:
            reached |= {b for a, b in limbs if a in reached}
    return spare if len(reached) == len(head.skeleton) else [False] * len(ends)
