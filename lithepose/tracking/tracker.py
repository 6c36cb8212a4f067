"""Ids for people over the frames of a video, from the predicted positions of their joints."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..media.sources import Frame
from ..poses import Poses
from .one_euro import Smoother
from .per_source import PerSource

SIGMA = 0.08  # OKS constant of skeletons without published ones: between shoulder and knee


@dataclass
class _Track:
    """One person that is tracked.

    Attributes:
        id: number.
        xy: (K, 2) joints as last seen, NaN for those never seen.
        velocity: (2,) pixels per second, of all joints together.
        seen: time at which the person was last seen, in seconds.
        frames: number of frames in which the person was seen.
    """

    id: int
    xy: np.ndarray
    velocity: np.ndarray
    seen: float
    frames: int = 1

    def at(self, time: float) -> np.ndarray:
        """(K, 2) predicted joints at a time."""
        return self.xy + self.velocity * (time - self.seen)


class Tracker:
    """Gives each person in one video an id that stays the same.

    Matching has two rounds, as in ByteTrack (Zhang et al. 2022, section 3). First, people with high scores are matched
    with the tracks; then people with low scores are matched with the remaining tracks. Only people with high scores
    begin a new id. The likeness of a person and a track is the mean of OKS and box overlap, over the joints that are
    seen, with the predicted joints of the track. The most alike pairs are matched first. A person who is not seen for
    longer than ``window`` is forgotten.

    Args:
        window: seconds that a person may be hidden.
        sure: lowest person score that begins an id; a person score grows with the number of joints found.
        certain: lowest root mean square of a person's joint scores that begins an id.
        alike: lowest likeness of a match; people with low scores need twice as much.
        guessed: joints with a lower score are guesses, and do not count for ``certain``.
    """

    def __init__(
        self, window: float = 2.0, sure: float = 0.3, certain: float = 0.5, alike: float = 0.15, guessed: float = 0.0
    ) -> None:
        self.window, self.sure, self.certain, self.alike, self.guessed = window, sure, certain, alike, guessed
        self._tracks: list[_Track] = []
        self._next = 1

    def __call__(self, poses: Poses, time: float) -> Poses:
        """Track the people of the next frame.

        Args:
            poses: people of the frame.
            time: time of the frame in seconds, later than that of the last one.

        Returns:
            the same people with ``id``, numbers from 1; -1 for people with low scores and without a match.
        """
        self._tracks = [track for track in self._tracks if time - track.seen <= self.window]
        ids = np.full(len(poses), -1, np.int64)
        likeness = self._likeness(poses, time)
        score = np.where(poses.score >= self.guessed, poses.score, 0)
        found = np.sqrt((score**2).sum(1) / np.maximum((score > 0).sum(1), 1))
        certain = self.certain if poses.box is None else 0.8 * self.certain  # joints of a crop are scored differently
        sure = (poses.person_score >= self.sure) & (found >= certain)
        free = np.ones(len(self._tracks), bool)
        for people, least in ((sure, self.alike), (~sure, 2 * self.alike)):
            table = np.where(people[:, None] & free, likeness, 0)
            while table.size and table.max() >= max(least, 1e-6):
                person, track = np.unravel_index(table.argmax(), table.shape)
                table[person], table[:, track], free[track] = 0, 0, False
                self._follow(self._tracks[track], poses.xy[person], time)
                ids[person] = self._tracks[track].id
        for person in np.flatnonzero((ids < 0) & sure):
            ids[person] = self._next
            self._tracks.append(_Track(self._next, poses.xy[person].copy(), np.zeros(2), time))
            self._next += 1
        return replace(poses, id=ids)

    def _likeness(self, poses: Poses, time: float) -> np.ndarray:
        """(N, T) likeness of people and tracks, in [0, 1]."""
        if not len(poses) or not self._tracks:
            return np.zeros((len(poses), len(self._tracks)))
        expected = np.stack([track.at(time) for track in self._tracks])
        both = np.isfinite(poses.xy[:, None]) & np.isfinite(expected[None])  # (N, T, K, 2)
        own, tracked = _boxes(poses.xy[:, None], both), _boxes(expected[None], both)
        common = np.maximum(np.minimum(own[1], tracked[1]) - np.maximum(own[0], tracked[0]), 0).prod(2)
        area, area_tracked = ((high - low).prod(2) for low, high in (own, tracked))
        overlap = common / np.maximum(area + area_tracked - common, 1e-6)
        # A hidden person may have changed direction: the allowed distance grows with time.
        hidden = 1 + 4 * np.array([time - track.seen for track in self._tracks])
        low, high = _boxes(expected, np.isfinite(expected))
        # Estimated as the area of a standing person, since the box of a half-seen person may be a strip.
        scale = np.maximum((high - low).max(1) ** 2 / 2, 1.0) * hidden**2
        sigma = np.array(poses.skeleton.sigmas or [SIGMA] * len(poses.skeleton))
        distance = np.where(both, poses.xy[:, None] - expected[None], 0)
        each = np.exp(-(distance**2).sum(3) / (2 * scale[:, None] * (2 * sigma) ** 2))
        oks = (each * both[..., 0]).sum(2) / np.maximum(both[..., 0].sum(2), 1)
        return (oks + overlap) / 2

    @staticmethod
    def _follow(track: _Track, xy: np.ndarray, time: float) -> None:
        both = np.isfinite(xy).all(1) & np.isfinite(track.xy).all(1)
        gap = max(time - track.seen, 1e-3)
        if both.any():
            moved = np.median(xy[both] - track.xy[both], 0) / gap
            # The first frames count most; a few joints at a person's edge count little.
            track.velocity += (moved - track.velocity) * (both.mean() / min(track.frames, 8))
        # A hidden joint moves with the others.
        track.xy = np.where(np.isfinite(xy), xy, track.at(time))
        track.seen, track.frames = time, track.frames + 1


def _boxes(xy: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(..., K, 2) joints, some missing -> (..., 2) their least and largest x and y; 0 where there is none."""
    low, high = np.where(there, xy, np.inf).min(-2), np.where(there, xy, -np.inf).max(-2)
    return np.where(np.isfinite(low), low, 0), np.where(np.isfinite(high), high, 0)


@dataclass
class _Followed:
    """The state of one source."""

    tracker: Tracker
    smoother: Smoother | None
    time: float = -1.0


class Following:
    """Tracks, and optionally smooths, people over all frames of a call. Each video starts with new ids.

    People in images are unchanged.

    Args:
        smooth: whether joints are smoothed too.
        guessed: as in :class:`Tracker`.
    """

    def __init__(self, smooth: bool = False, guessed: float = 0.0) -> None:
        self._states = PerSource(lambda: _Followed(Tracker(guessed=guessed), Smoother() if smooth else None))

    def __call__(self, frame: Frame, poses: Poses) -> Poses:
        """Track the people of the next frame.

        Args:
            frame: the frame, of which source, number and time are used.
            poses: people of the frame.

        Returns:
            the same people with ids, and smoothed if requested.
        """
        if frame.index is None:
            return poses
        state = self._states.of(frame)
        time = frame.time if frame.time is not None else -1.0
        # Some streams' clocks stand still.
        state.time = time if time > state.time else state.time + 1 / (frame.rate or 30.0)
        poses = state.tracker(poses, state.time)
        return state.smoother(poses, state.time) if state.smoother else poses
