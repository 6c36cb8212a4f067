"""Base class of heads. A head defines the meaning of a network's output.

A head encodes labels as training targets, decodes outputs into people, and flips the output of a mirrored image back.
Each kind of output has its own subclass and file. The loss and the exported graph of a kind are looked up by the type
of the head (``training/losses.py``, ``runtime/torch.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Generic, Self, TypeVar

import numpy as np

from ..geometry import Letterbox, PersonCrop
from ..skeleton import Skeleton
from .labels import Labels

OutputT = TypeVar("OutputT")


@dataclass(frozen=True)
class DecodeConfig:
    """Thresholds of the decoder, for scores in [0, 1]."""

    peak: float = 0.18  # lowest score of a joint
    limb: float = 0.1  # lowest agreement of one sample on a limb with the part affinity field
    agree: float = 0.8  # share of a limb's samples that must reach this agreement
    samples: int = 10  # number of samples on a limb
    joints: int = 4  # fewest joints of a person; half of them for skeletons with fewer than eight
    person: float = 0.0  # lowest score of a person, as returned by decode
    by_limb: bool = False  # group by kind of limb as OpenPose does, instead of the image's best limb first
    complete: bool = False  # estimate the joints of a person that were not found, for COCO's joints

    @property
    def guessed(self) -> float:
        """Score below which a joint is a guess. Guesses score at most half of it."""
        return self.peak if self.complete else 0.0


OPENPOSE_DECODER: dict[str, float] = {
    "peak": 0.1,
    "limb": 0.05,
    "agree": 0.8,
    "samples": 10,
    "joints": 3,
    "by_limb": True,
}
"""OpenPose's own settings, as fields of :class:`DecodeConfig`."""


@dataclass(frozen=True)
class Head(Generic[OutputT]):
    """Meaning of the output of a keypoint network.

    Attributes:
        skeleton: the joints that the network predicts, in the order of its channels.
        output: skeleton of the results; its joints are looked up in ``skeleton`` by name.
        single_person: the network finds one person, who fills the input; training then crops around single people.
        batched: inputs of one size run as a batch; False if outputs do not stack, because the number of people varies.
        fixed_size: the input is always a square of the model's size.
        learns_boxes: boxes of people are targets too.
    """

    skeleton: Skeleton
    output: Skeleton
    output_order: tuple[int, ...] = field(init=False)

    single_person: ClassVar[bool] = True
    batched: ClassVar[bool] = True
    fixed_size: ClassVar[bool] = False
    learns_boxes: ClassVar[bool] = False

    def __post_init__(self) -> None:
        order = tuple(self.skeleton.joints.index(joint) for joint in self.output.joints)
        object.__setattr__(self, "output_order", order)

    @property
    def cell(self) -> int:
        """Resolution of its positions before refinement, in input pixels."""
        return 8

    def with_skeleton(self, skeleton: Skeleton) -> Self:
        """Return the same kind of output for other joints.

        Raises:
            ConfigError: this kind of output cannot represent the skeleton.
        """
        return replace(self, skeleton=skeleton, output=skeleton)

    def check_flip(self) -> None:
        """Raise ValueError if a mirrored output cannot be flipped back."""

    def encode(self, labels: Labels, size: int) -> dict[str, np.ndarray]:
        """Encode labels of an image of ``size`` x ``size`` pixels as named targets, which the loss gets in batches."""
        raise NotImplementedError

    def decode(self, output: OutputT, config: DecodeConfig) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Decode the output of one image into people, the best first.

        Returns:
            xy (N, K, 2) float32 in input pixels, NaN where not found; score (N, K) float32; person score (N,) float32.
            K is the number of joints of :attr:`output`, in its order. Implementations end with :func:`keep_people`.
        """
        raise NotImplementedError

    def unmirror(self, output: OutputT, width: int) -> OutputT:
        """Flip the output of a mirrored input back; left and right joints are swapped.

        Args:
            output: output of one image.
            width: width of the input in pixels.
        """
        raise NotImplementedError

    def average(self, views: Sequence[tuple[OutputT, Letterbox | PersonCrop]]) -> OutputT:
        """Average views of one image, in the coordinates of the first.

        Args:
            views: output of each view, and the position of its input in the image.
        """
        raise NotImplementedError


def keep_people(
    xy: np.ndarray, score: np.ndarray, person_score: np.ndarray, config: DecodeConfig
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Remove people below the thresholds and sort the rest, best first."""
    joints = min(config.joints, -(-score.shape[1] // 2))
    keep = np.flatnonzero(((score >= config.peak).sum(1) >= joints) & (person_score >= config.person))
    order = keep[np.argsort(-person_score[keep], kind="stable")]
    return xy[order], score[order], person_score[order]
