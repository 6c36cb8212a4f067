"""Selects which people of a frame are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ConfigError
from ..media.sources import Frame
from ..poses import Poses
from .per_source import PerSource

AWAY = 2.0  # seconds after which another person may become the main one


@dataclass(frozen=True)
class SelectConfig:
    """Which people are kept.

    Attributes:
        min_score: lowest score of a person.
        most: largest number of people, the best ones; 0 keeps all.
        person: ``main`` keeps the largest person; in a video, the same one while it is visible. A number keeps the
            person with this id; empty keeps all.
        region: (x, y, width, height) in pixels, which must contain the centre of a person's box; None keeps all.
    """

    min_score: float = 0.0
    most: int = 0
    person: str = ""
    region: tuple[float, float, float, float] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.min_score < 1:
            raise ConfigError(f"lowest score of a person {self.min_score}: must be at least 0 and below 1")
        if self.most < 0:
            raise ConfigError(f"maximum number of people {self.most}: must be 1 or more, or 0 for all")
        if self.person not in ("", "main") and not self.person.isdecimal():
            raise ConfigError(f"person {self.person!r}: must be main or an id")
        if self.region is not None and min(self.region[2:]) <= 0:
            raise ConfigError(f"region {self.region}: must be x, y, width and height, with width and height above 0")

    @property
    def by_id(self) -> bool:
        """Whether the people of videos need ids."""
        return bool(self.person)


@dataclass
class _Main:
    """The main person of a video: its id, and when it was last seen."""

    id: int = -1
    seen: float = 0.0


class Selection:
    """Keeps some of the people, frame by frame.

    Args:
        config: which people are kept.
    """

    def __init__(self, config: SelectConfig) -> None:
        self.config = config
        self._mains = PerSource(_Main)

    def __call__(self, frame: Frame, poses: Poses) -> Poses:
        """The people of a frame that are kept."""
        config = self.config
        if config.min_score:
            poses = poses[poses.person_score >= config.min_score]
        if config.region is not None and len(poses):
            x, y, width, height = config.region
            middle = poses.boxes[:, :2] + poses.boxes[:, 2:] / 2 - (x, y)
            inside: np.ndarray = (middle >= 0) & (middle < (width, height))
            poses = poses[np.flatnonzero(inside.all(1))]
        if config.person == "main":
            poses = self._of_main(frame, poses)
        elif config.person:
            ids = np.full(len(poses), -1) if poses.id is None else poses.id
            poses = poses[np.flatnonzero(ids == int(config.person))]
        return poses[: config.most] if config.most else poses

    def _of_main(self, frame: Frame, poses: Poses) -> Poses:
        if not len(poses):
            return poses
        largest = int(poses.boxes[:, 2:].prod(1).argmax())
        if frame.index is None or poses.id is None:
            return poses[largest]
        time = frame.time or 0.0
        main = self._mains.of(frame)
        at = np.flatnonzero(poses.id == main.id) if main.id >= 0 else ()
        if not len(at):
            if main.id >= 0 and time - main.seen < AWAY:
                return poses[:0]
            at, main.id = [largest], int(poses.id[largest])
        main.seen = time
        return poses[np.array(at)]
