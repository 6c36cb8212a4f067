"""Skeletons: joints, edges, flip pairs, OKS sigmas, colours.

All data that depends on the joints of a data set or network is in this file. Targets, networks, the decoder, drawing
and the metrics read it and define no joint names of their own.
"""

from __future__ import annotations

import colorsys
import re
import tomllib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .errors import ConfigError

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


@dataclass(frozen=True)
class Skeleton:
    """Named joints and their connections.

    Attributes:
        name: identifier, for example ``coco17``.
        joints: K joint names, in the order of every array that has a joint axis.
        edges: pairs of joint indices to draw.
        flip_pairs: pairs of joint indices that change places when an image is mirrored.
        sigmas: K per-joint constants of object keypoint similarity, or () where none are published.
    """

    name: str
    joints: tuple[str, ...]
    edges: tuple[tuple[int, int], ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    sigmas: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.joints)
        if len(set(self.joints)) != n:
            raise ConfigError(f"skeleton {self.name!r} contains a duplicate joint: {self.joints}")
        if any(not 0 <= i < n for pair in (*self.edges, *self.flip_pairs) for i in pair):
            raise ConfigError(f"skeleton {self.name!r} has an edge or flip pair outside its {n} joints")
        if self.sigmas and len(self.sigmas) != n:
            raise ConfigError(f"skeleton {self.name!r} has {len(self.sigmas)} sigmas for {n} joints")

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def flip_order(self) -> tuple[int, ...]:
        """Joint i of the mirrored image is joint ``flip_order[i]`` of the original."""
        order = list(range(len(self.joints)))
        for a, b in self.flip_pairs:
            order[a], order[b] = b, a
        return tuple(order)

    @cached_property
    def unpaired(self) -> tuple[str, ...]:
        """Joints with a side in their names that are in no flip pair."""
        paired = {i for pair in self.flip_pairs for i in pair}
        return tuple(joint for i, joint in enumerate(self.joints) if i not in paired and side_of(joint))

    @cached_property
    def edge_colours(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB colour per edge: left side warm, right side cool, middle green."""
        return tuple(self._colour(a, b) for a, b in self.edges)

    def joint_colour(self, k: int) -> tuple[int, int, int]:
        """RGB colour of a joint, by its side."""
        return self._colour(k, k)

    def _colour(self, a: int, b: int) -> tuple[int, int, int]:
        sides = {side_of(self.joints[a]), side_of(self.joints[b])}
        left, right = "left" in sides, "right" in sides
        hue = 0.33 if left == right else 0.07 if left else 0.58
        # A small shift of the hue by position distinguishes neighbouring limbs of one side.
        hue += 0.06 * ((a + b) % 3 - 1)
        r, g, b_ = colorsys.hsv_to_rgb(hue % 1.0, 0.85, 1.0)
        return round(r * 255), round(g * 255), round(b_ * 255)

    @classmethod
    def from_toml(cls, path: str | Path) -> Skeleton:
        """Read a skeleton with edges and flip pairs written as joint names.

        Raises:
            ConfigError: the file is not TOML, lacks ``name`` or ``joints``, or names an unknown joint.
        """
        try:
            data = tomllib.loads(Path(path).read_text(encoding="utf-8"))
            joints = tuple(data["joints"])
            index = {joint: i for i, joint in enumerate(joints)}

            def pairs(key: str) -> tuple[tuple[int, int], ...]:
                return tuple((index[a], index[b]) for a, b in data.get(key, ()))

            return cls(data["name"], joints, pairs("edges"), pairs("flip_pairs"), tuple(data.get("sigmas", ())))
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise ConfigError(
                f"{path}: not a valid skeleton file ({error!r}); it needs name, joints and edges by joint name"
            ) from error


_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\x00-\x7F]+")  # the words of left_hip, LHip, LEFT HIP, hip.L
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


def side_of(joint: str) -> str:
    """``left`` or ``right``, if one word of a joint's name is a side; else empty."""
    return _split_side(joint)[0]


def _split_side(joint: str, glued: bool = False) -> tuple[str, str]:
    """The side in a joint's name, and the name without it; ``glued`` also reads ``lefthip``."""
    words = [word.lower() for word in _WORD.findall(joint)]
    sides = [word for word in words if word in _SIDES]
    if len(sides) == 1 and (words == sides or any(word.isalpha() and word not in _SIDES for word in words)):
        return _SIDES[sides[0]], "".join("|" if word in _SIDES else word for word in words)
    name = "".join(words)
    for side in ("left", "right") if glued and not sides else ():
        if name != side and (name.startswith(side) or name.endswith(side)):
            return side, name.replace(side, "|", 1)
    return "", ""


def mirror_pairs(joints: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """Pairs (left, right) of joints with the same name except for the side.

    ``left_hip``, ``hip_left``, ``l_hip``, ``LHip``, ``Left Hip``, ``hip.L``, ``lefthip`` and the like are understood.
    """
    number = {_split_side(joint, glued=True): i for i, joint in reversed(list(enumerate(joints)))}
    return tuple(
        (i, number["right", name])
        for (side, name), i in sorted(number.items(), key=lambda item: item[1])
        if side == "left" and ("right", name) in number
    )


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(a), int(b)) for a, b in (pair.split("-") for pair in text.split()))


COCO_17 = Skeleton(
    "coco17",
    tuple(
        "nose left_eye right_eye left_ear right_ear left_shoulder right_shoulder left_elbow right_elbow"
        " left_wrist right_wrist left_hip right_hip left_knee right_knee left_ankle right_ankle".split()
    ),
    _pairs("15-13 13-11 16-14 14-12 11-12 5-11 6-12 5-6 5-7 6-8 7-9 8-10 1-2 0-1 0-2 1-3 2-4 3-5 4-6"),
    _pairs("1-2 3-4 5-6 7-8 9-10 11-12 13-14 15-16"),
    (.026, .025, .025, .035, .035, .079, .079, .072, .072, .062, .062, .107, .107, .087, .087, .089, .089),
)  # fmt: skip

OPENPOSE_18 = Skeleton(
    "openpose18",
    tuple(
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist right_hip right_knee"
        " right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear".split()
    ),
    _pairs("1-8 8-9 9-10 1-11 11-12 12-13 1-2 2-3 3-4 1-5 5-6 6-7 1-0 0-14 0-15 14-16 15-17"),
    _pairs("2-5 3-6 4-7 8-11 9-12 10-13 14-15 16-17"),
)

BODY_25 = Skeleton(
    "body25",
    tuple(
        "nose neck right_shoulder right_elbow right_wrist left_shoulder left_elbow left_wrist mid_hip right_hip"
        " right_knee right_ankle left_hip left_knee left_ankle right_eye left_eye right_ear left_ear left_big_toe"
        " left_small_toe left_heel right_big_toe right_small_toe right_heel".split()
    ),
    _pairs(
        "1-8 1-2 1-5 2-3 3-4 5-6 6-7 8-9 9-10 10-11 8-12 12-13 13-14 1-0 0-15 15-17 0-16 16-18 14-19 19-20 14-21"
        " 11-22 22-23 11-24"
    ),
    _pairs("2-5 3-6 4-7 9-12 10-13 11-14 15-16 17-18 19-22 20-23 21-24"),
)

MIDPOINTS = {
    "neck": ("left_shoulder", "right_shoulder"),
    "mid_hip": ("left_hip", "right_hip"),
    "pelvis": ("left_hip", "right_hip"),
}
"""Joints that are taken to lie midway between two others where a skeleton lacks them."""

_MPII_JOINTS = tuple(
    "right_ankle right_knee right_hip left_hip left_knee left_ankle pelvis thorax upper_neck head_top"
    " right_wrist right_elbow right_shoulder left_shoulder left_elbow left_wrist".split()
)
_MPII_EDGES = _pairs("0-1 1-2 2-6 6-3 3-4 4-5 6-7 7-8 8-9 8-12 12-11 11-10 8-13 13-14 14-15")
_MPII_FLIPS = _pairs("0-5 1-4 2-3 10-15 11-14 12-13")
LIP_16 = Skeleton("lip16", _MPII_JOINTS, _MPII_EDGES, _MPII_FLIPS)
MPII_16 = Skeleton("mpii16", _MPII_JOINTS, _MPII_EDGES, _MPII_FLIPS)

FLIC_11 = Skeleton(
    "flic11",
    tuple(
        "left_shoulder left_elbow left_wrist right_shoulder right_elbow right_wrist left_hip right_hip"
        " left_eye right_eye nose".split()
    ),
    _pairs("2-1 1-0 5-4 4-3 0-3 0-6 3-7 6-7 8-10 9-10"),
    _pairs("0-3 1-4 2-5 6-7 8-9"),
)

LSP_14 = Skeleton(
    "lsp14",
    tuple(
        "right_ankle right_knee right_hip left_hip left_knee left_ankle right_wrist right_elbow right_shoulder"
        " left_shoulder left_elbow left_wrist neck head_top".split()
    ),
    _pairs("0-1 1-2 2-3 3-4 4-5 2-8 3-9 8-7 7-6 9-10 10-11 8-12 9-12 12-13"),
    _pairs("0-5 1-4 2-3 6-11 7-10 8-9"),
)

SKELETONS = {s.name: s for s in (COCO_17, OPENPOSE_18, BODY_25, LIP_16, MPII_16, FLIC_11, LSP_14)}

COCO_18 = Skeleton("coco18", (*COCO_17.joints, "neck"), COCO_17.edges, COCO_17.flip_pairs)
"""COCO-17 and the neck (midpoint of the shoulders) as joint 17: the joint that limbs of many people meet in."""
