"""Reference implementation of peaks, limbs and grouping as in the papers, one number at a time.

The tests compare heads/heatmaps.py and heads/grouping.py with it.
"""

from __future__ import annotations

import math

from lithepose.heads.base import DecodeConfig
from lithepose.heads.outputs import Maps
from lithepose.heads.pafs import PafHead

Candidate = tuple[int, float, float, float]  # joint, x, y in cells, score


def candidates(maps: Maps, head: PafHead, threshold: float) -> list[Candidate]:
    """Find cells that no neighbour exceeds (the first of equal ones); each axis by a parabola through logarithms."""
    k, h, w = maps.heatmaps.shape
    found = []
    for joint in range(k):
        peaks = []
        heat = maps.heatmaps[joint].tolist()
        for y in range(h):
            for x in range(w):
                value = heat[y][x]
                if value < threshold:
                    continue
                near = [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if (dy, dx) != (0, 0)]
                near = [(v, u) for v, u in near if 0 <= v < h and 0 <= u < w]
                if any(heat[v][u] > value or (heat[v][u] == value and (v, u) < (y, x)) for v, u in near):
                    continue
                column = [row[x] for row in heat]
                peaks.append((joint, top(heat[y], x, head.sigma), top(column, y, head.sigma), value))
        found += sorted(peaks, key=lambda peak: -peak[3])
    return found


def top(values: list[float], at: int, sigma: float) -> float:
    log = [math.log(max(v, 1e-6)) for v in values[max(at - 1, 0) : at + 2]]
    if at == 0:
        shift = 0.5 - sigma**2 * (log[0] - log[1])
    elif at == len(values) - 1:
        shift = sigma**2 * (log[1] - log[0]) - 0.5
    else:
        shift = (log[0] - log[2]) / (2 * min(log[0] + log[2] - 2 * log[1], -1e-6))
    return at + min(max(shift, -0.5), 0.5)


def connections(
    maps: Maps, head: PafHead, found: list[Candidate], config: DecodeConfig
) -> list[tuple[int, int, int, float]]:
    """Return limb, the candidates at its ends, score: the mean of the field along the pair, minus a penalty."""
    _, h, w = maps.pafs.shape
    pafs = maps.pafs.tolist()
    pairs = []
    for limb, (joint_a, joint_b) in enumerate(head.limbs):
        for a in (i for i, c in enumerate(found) if c[0] == joint_a):
            for b in (i for i, c in enumerate(found) if c[0] == joint_b):
                (xa, ya), (xb, yb) = (
                    (min(max(found[c][1], 0), w - 1), min(max(found[c][2], 0), h - 1)) for c in (a, b)
                )
                length = max(math.hypot(xb - xa, yb - ya), 1e-6)
                along = []
                for sample in range(config.samples):
                    share = sample / (config.samples - 1)
                    x, y = int(xa + (xb - xa) * share + 0.5), int(ya + (yb - ya) * share + 0.5)
                    part = pafs[2 * limb][y][x] * (xb - xa) + pafs[2 * limb + 1][y][x] * (yb - ya)
                    along.append(part / length)
                score = sum(along) / len(along) + min(0.5 * max(h, w) / length - 1, 0)
                if sum(v > config.limb for v in along) >= config.agree * config.samples and score > 0:
                    pairs.append((limb, a, b, score))
    return pairs


def best_first(found: list[Candidate], pairs: list[tuple[int, int, int, float]]) -> list[dict[int, int]]:
    """huang2019mln: use the best remaining connection; connections that share a joint form one person."""
    people: list[dict[int, int]] = []
    used: set[tuple[int, int]] = set()
    for limb, a, b, _ in sorted(pairs, key=lambda pair: (-pair[3], pair[:3])):
        if (limb, a) in used or (limb, b) in used:
            continue
        (joint_a, joint_b) = found[a][0], found[b][0]
        one = next((p for p in people if p.get(joint_a) == a), None)
        two = next((p for p in people if p.get(joint_b) == b), None)
        if one is None and two is None:
            people.append({joint_a: a, joint_b: b})
        elif one is two:
            continue
        elif one is None or two is None:
            person, joint, candidate = (one, joint_b, b) if one is not None else (two, joint_a, a)
            assert person is not None
            if joint in person:
                continue
            person[joint] = candidate
        else:
            if set(one) & set(two):
                continue
            one.update(two)
            people.remove(two)
        used |= {(limb, a), (limb, b)}
    return people


def limb_by_limb(
    found: list[Candidate], pairs: list[tuple[int, int, int, float]], head: PafHead
) -> list[dict[int, int]]:
    """OpenPose: process each kind of limb in turn; limbs from shoulders to ears come last and only add missing ears."""
    ends = [b for _, b in head.limbs]
    spare = [limb for limb in range(len(ends)) if ends[limb] in ends[limb + 1 :]]
    people: list[dict[int, int]] = []
    for limb in [limb for limb in range(len(ends)) if limb not in spare] + spare:
        used: set[int] = set()
        for _, a, b, _ in sorted((p for p in pairs if p[0] == limb), key=lambda pair: (-pair[3], pair[:3])):
            if used & {a, b}:
                continue
            joint_a, joint_b = head.limbs[limb]
            one = next((p for p in people if p.get(joint_a) == a), None)
            two = next((p for p in people if p.get(joint_b) == b), None)
            if limb in spare:
                if one is not None and two is None and joint_b not in one:
                    one[joint_b] = b
                    used |= {a, b}
                continue
            if one is None and two is None:
                people.append({joint_a: a, joint_b: b})
            elif one is None or two is None:
                person, joint, candidate = (one, joint_b, b) if one is not None else (two, joint_a, a)
                assert person is not None
                if joint in person:
                    continue
                person[joint] = candidate
            elif one is not two and not set(one) & set(two):
                one.update(two)
                people.remove(two)
            else:
                continue
            used |= {a, b}
    return people


def parse(maps: Maps, head: PafHead, config: DecodeConfig) -> list[dict[int, Candidate]]:
    """Return people with at least ``config.joints`` joints, as dicts from joint to candidate."""
    found = candidates(maps, head, config.peak)
    pairs = connections(maps, head, found, config)
    people = limb_by_limb(found, pairs, head) if config.by_limb else best_first(found, pairs)
    return [{joint: found[c] for joint, c in person.items()} for person in people]
