"""Angles of joints and segments, and distances in body lengths, in the image plane.

Definitions refer to joints by name, so they apply to every skeleton that has those joints.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arrays import Float
from ..errors import ConfigError
from ..skeleton import MIDPOINTS, Skeleton, side_of

HORIZONTAL = ("", "")  # of the image, to the right
Segment = tuple[str, str]  # from a joint to a joint


@dataclass(frozen=True)
class Angle:
    """The angle from the direction of ``base`` to that of ``to``, counter-clockwise on the screen.

    Attributes:
        name: for example ``left_knee``.
        base: reference segment; :data:`HORIZONTAL` of the image for angles of segments.
        to: segment that is measured.
    """

    name: str
    base: Segment
    to: Segment

    @property
    def joints(self) -> tuple[str, ...]:
        """Joints that the angle needs."""
        return tuple(dict.fromkeys(joint for joint in (*self.base, *self.to) if joint))


def _sides(name: str, base: Segment, to: Segment) -> tuple[Angle, Angle]:
    def of(side: str, segment: Segment) -> Segment:
        return segment if segment == HORIZONTAL else (f"{side}_{segment[0]}", f"{side}_{segment[1]}")

    left, right = (Angle(f"{side}_{name}", of(side, base), of(side, to)) for side in ("left", "right"))
    return left, right


JOINT_ANGLES: tuple[Angle, ...] = (
    *_sides("knee", ("hip", "knee"), ("knee", "ankle")),
    *_sides("hip", ("shoulder", "hip"), ("hip", "knee")),
    *_sides("ankle", ("knee", "ankle"), ("ankle", "big_toe")),
    *_sides("elbow", ("shoulder", "elbow"), ("elbow", "wrist")),
    *_sides("shoulder", ("shoulder", "hip"), ("shoulder", "elbow")),
)
"""0 where the limb is straight; of the shoulder where the upper arm lies along the trunk."""

SEGMENT_ANGLES: tuple[Angle, ...] = (
    *_sides("thigh", HORIZONTAL, ("hip", "knee")),
    *_sides("shank", HORIZONTAL, ("knee", "ankle")),
    *_sides("foot", HORIZONTAL, ("heel", "big_toe")),
    *_sides("upper_arm", HORIZONTAL, ("shoulder", "elbow")),
    *_sides("forearm", HORIZONTAL, ("elbow", "wrist")),
    Angle("trunk", HORIZONTAL, ("mid_hip", "neck")),
    Angle("head", HORIZONTAL, ("neck", "head_top")),
    Angle("shoulders", HORIZONTAL, ("right_shoulder", "left_shoulder")),
    Angle("pelvis", HORIZONTAL, ("right_hip", "left_hip")),
)
"""0 where the segment points to the right of the image, 90 where it points up."""

BODY: tuple[Segment, ...] = (("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle"))
"""Segments of both sides that make up a body length."""


def available(skeleton: Skeleton) -> tuple[Angle, ...]:
    """The angles that a skeleton has the joints for."""
    return tuple(a for a in (*JOINT_ANGLES, *SEGMENT_ANGLES) if all(_has(skeleton, joint) for joint in a.joints))


def choose(names: str, skeleton: Skeleton) -> tuple[Angle, ...]:
    """The angles of a list of names.

    Args:
        names: ``all``, ``joints``, ``segments``, or names with commas between them; a name without a side means both.
        skeleton: skeleton that must have them.

    Raises:
        ConfigError: an unknown name, or an angle that the skeleton has no joints for.
    """
    there = available(skeleton)
    groups = {"all": there, "joints": [a for a in there if a in JOINT_ANGLES]}
    groups["segments"] = [a for a in there if a in SEGMENT_ANGLES]
    chosen = dict[Angle, None]()
    for name in (part.strip().lower().replace("-", "_") for part in names.split(",")):
        found = groups.get(name, [a for a in there if name in (a.name, a.name.removeprefix(f"{side_of(a.name)}_"))])
        if not found:
            raise ConfigError(
                f"angle {name!r}: not available for {skeleton.name}; choose all, joints, segments, or one of its"
                f" angles: {', '.join(dict.fromkeys(_plain(a) for a in there)) or 'none'}"
            )
        chosen |= dict.fromkeys(found)
    return tuple(chosen)


def _plain(angle: Angle) -> str:
    return angle.name.removeprefix(f"{side_of(angle.name)}_")


def _has(skeleton: Skeleton, joint: str) -> bool:
    return joint in skeleton.joints or (joint in MIDPOINTS and set(MIDPOINTS[joint]) <= set(skeleton.joints))


def joint_values(values: np.ndarray, skeleton: Skeleton, joint: str, least: bool = False) -> np.ndarray:
    """Values of one joint, which may be the middle of two others.

    Args:
        values: (T, K, ...) values by joint.
        skeleton: names of the K joints.
        joint: its name.
        least: use the smaller value of two joints instead of their mean, as for scores.

    Returns:
        (T, ...).

    Raises:
        ConfigError: the skeleton has no such joint.
    """
    if joint in skeleton.joints:
        return values[:, skeleton.joints.index(joint)]
    if not _has(skeleton, joint):
        raise ConfigError(f"{skeleton.name} has no joint {joint!r}; choose one of {', '.join(skeleton.joints)}")
    two = values[:, [skeleton.joints.index(end) for end in MIDPOINTS[joint]]]
    return two.min(1) if least else two.mean(1)


def measure(angle: Angle, xy: Float[np.ndarray, "t k 2"], skeleton: Skeleton) -> Float[np.ndarray, " t"]:
    """An angle over time. Angles of joints are above -180 and up to 180 degrees; angles of segments have no jumps.

    Args:
        angle: its definition.
        xy: (T, K, 2) joints in pixels, NaN where not found.
        skeleton: names of the K joints.

    Returns:
        (T,) degrees, NaN where a joint is missing. After such a gap, a segment's angle starts again above -180 and up
        to 180 degrees.
    """
    to = joint_values(xy, skeleton, angle.to[1]) - joint_values(xy, skeleton, angle.to[0])
    base = np.broadcast_to((1.0, 0.0), to.shape)
    if angle.base != HORIZONTAL:
        base = joint_values(xy, skeleton, angle.base[1]) - joint_values(xy, skeleton, angle.base[0])
    base, to = base.astype(float), to.astype(float)
    cross = base[:, 0] * to[:, 1] - base[:, 1] * to[:, 0]
    degrees = np.degrees(np.arctan2(-cross, (base * to).sum(1)))  # y points down: minus is counter-clockwise
    degrees[(base == 0).all(1) | (to == 0).all(1)] = np.nan  # a segment without length has no direction
    degrees[degrees == -180] = 180
    if angle.base == HORIZONTAL:
        found = np.flatnonzero(np.isfinite(degrees))
        for piece in np.split(found, np.flatnonzero(np.diff(found) > 1) + 1):
            degrees[piece] = np.unwrap(degrees[piece], period=360)
    return degrees


def body_length(xy: Float[np.ndarray, "t k 2"], skeleton: Skeleton) -> float:
    """Sum of shoulder to hip, hip to knee and knee to ankle, in pixels, each as the median over the clip.

    Args:
        xy: (T, K, 2) joints of one person, NaN where not found.
        skeleton: names of the K joints.

    Returns:
        the length; NaN if one of the segments is never seen.

    Raises:
        ConfigError: the skeleton lacks one of the joints.
    """
    total = 0.0
    for segment in BODY:
        ends = [[joint_values(xy, skeleton, f"{side}_{joint}") for joint in segment] for side in ("left", "right")]
        lengths = np.stack([np.linalg.norm(b - a, axis=1) for a, b in ends])
        seen = lengths[np.isfinite(lengths)]
        total += float(np.median(seen)) if len(seen) else np.nan
    return total


def pairs(names: str, skeleton: Skeleton) -> tuple[Segment, ...]:
    """Pairs of joints from a list like ``left_ankle-right_ankle,nose-mid_hip``; ``ankles`` means those of both sides.

    Raises:
        ConfigError: a name that is not a pair, or a joint that the skeleton lacks.
    """
    chosen = list[Segment]()
    for name in (part.strip() for part in names.split(",")):
        kind = name.removesuffix("s")
        ends = tuple(name.split("-")) if "-" in name else (f"left_{kind}", f"right_{kind}")
        if len(ends) != 2 or not all(_has(skeleton, joint) for joint in ends):
            raise ConfigError(
                f"distance {name!r}: must be two joints, such as left_ankle-right_ankle, or both of a kind, such as"
                f" ankles; joints of {skeleton.name}: {', '.join(skeleton.joints)}"
            )
        chosen.append((ends[0], ends[1]))
    return tuple(chosen)
