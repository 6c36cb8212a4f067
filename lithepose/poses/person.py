"""One person of a result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..arrays import Bool, Float
from ..guesses import PERSON, no_attribute
from ..skeleton import Skeleton


class Joint(NamedTuple):
    """One joint of a person: pixels, NaN where it was not found, and its score."""

    x: float
    y: float
    score: float


@dataclass(frozen=True, eq=False)
class Person:
    """One person of :class:`Poses`.

    Attributes:
        xy: (K, 2) float32 joints in pixels of the image, NaN where not found.
        score: (K,) float32 scores of the joints, 0 where not found.
        person_score: score of the person in [0, 1].
        box: (4,) float32 x, y, width, height.
        skeleton: names of the joints.
        id: number of the person in a video, -1 if unknown; None without tracking.
    """

    xy: Float[np.ndarray, "k 2"]
    score: Float[np.ndarray, " k"]
    person_score: float
    box: Float[np.ndarray, "xywh=4"]
    skeleton: Skeleton
    id: int | None = None

    if not TYPE_CHECKING:  # type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            if "skeleton" in self.__dict__ and name in self.skeleton.joints:
                raise AttributeError(f"a person has no attribute {name!r}; use person[{name!r}]")
            raise no_attribute("a person", name, PERSON, dir(type(self)))

    @property
    def visible(self) -> Bool[np.ndarray, " k"]:
        """(K,) bool: which joints were found."""
        return self.score > 0

    def __getitem__(self, joint: str) -> Joint:
        """A joint by name.

        Raises:
            KeyError: unknown joint; the message names the known ones.
        """
        if joint not in self.skeleton.joints:
            raise KeyError(f"unknown joint {joint!r}; choose one of {', '.join(self.skeleton.joints)}")
        k = self.skeleton.joints.index(joint)
        return Joint(float(self.xy[k, 0]), float(self.xy[k, 1]), float(self.score[k]))
