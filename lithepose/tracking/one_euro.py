"""Smoothing of joints: the one-euro filter smooths joints at rest and follows joints that move."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ConfigError
from ..poses import Poses


@dataclass
class _State:
    xy: np.ndarray  # (K, 2) filtered
    velocity: np.ndarray  # (K, 2) pixels a second, filtered
    seen: np.ndarray  # (K,) when each joint was last seen, in seconds
    time: float


class Smoother:
    """One-euro filter (Casiez, Roussel and Vogel 2012) for the joints of people with ids.

    A joint's cutoff grows with its speed, here in lengths of the person per second, so that near and far people are
    treated alike. The filter uses the times of the frames, so missing frames and uneven times do no harm.

    Args:
        cutoff: cutoff in hertz for a joint at rest; a lower one smooths more.
        slope: growth of the cutoff, in hertz per length of the person per second; a higher one lags less.
        window: seconds after which the filter restarts for a joint or person that was not seen; at least two and a half
            frames.
    """

    def __init__(self, cutoff: float = 1.0, slope: float = 7.0, window: float = 0.3) -> None:
        self.cutoff, self.slope, self.window = cutoff, slope, window
        self._states: dict[int, _State] = {}
        self._time, self._gap, self._least = -math.inf, 0.0, window  # the usual gap between frames

    def __call__(self, poses: Poses, time: float) -> Poses:
        """Smooth the joints of the next frame; people without an id are unchanged.

        Args:
            poses: people with ids, as from :class:`lithepose.tracking.tracker.Tracker`.
            time: time of the frame in seconds, later than that of the last one.

        Raises:
            ConfigError: the people have no ids.
        """
        if poses.id is None:
            raise ConfigError("smoothing needs people with ids; track first")
        if math.isfinite(self._time):
            gap = time - self._time
            self._gap += (gap - self._gap) / (8 if self._gap else 1)
        self._time, self._least = time, max(self.window, 2.5 * self._gap)
        self._states = {k: state for k, state in self._states.items() if time - state.time <= self._least}
        xy = poses.xy.copy()
        for person, number in enumerate(poses.id.tolist()):
            if number >= 0:
                width, height = poses.boxes[person, 2:].tolist()
                xy[person] = self._filter(
                    number, xy[person].astype(np.float64), time, max(math.hypot(width, height), 1.0)
                )
        return replace(poses, xy=xy)

    def _filter(self, number: int, xy: np.ndarray, time: float, length: float) -> np.ndarray:
        there = np.isfinite(xy[:, 0])
        state = self._states.get(number)
        if state is None:
            self._states[number] = _State(xy, np.zeros_like(xy), np.where(there, time, -np.inf), time)
            return xy
        known = there & (time - state.seen <= self._least)
        gap = np.where(known, np.maximum(time - state.seen, 1e-3), 1.0)[:, None]
        velocity = (xy - state.xy) / gap
        velocity = state.velocity + _share(1.0, gap) * (velocity - state.velocity)
        speed = np.hypot(*velocity.T)[:, None] / length
        smooth = state.xy + _share(self.cutoff + self.slope * speed, gap) * (xy - state.xy)
        state.velocity = np.where(known[:, None], velocity, np.where(there[:, None], 0.0, state.velocity))
        state.xy = np.where(known[:, None], smooth, np.where(there[:, None], xy, state.xy))
        state.seen, state.time = np.where(there, time, state.seen), time
        return np.where(there[:, None], state.xy, np.nan)


def _share(cutoff: float | np.ndarray, gap: np.ndarray) -> np.ndarray:
    """Weight of the new value in a low pass."""
    return 1 / (1 + 1 / (2 * math.pi * cutoff * gap))
