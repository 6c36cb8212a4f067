"""How people's joints usually lie to each other: a guess at joints that a network did not find.

COCO's average precision counts a joint without an answer as wrong, hidden ones included, so every method that is
compared by it answers for all joints. Here the answer is where a Gaussian over whole poses expects the joint from those
found, or the best heatmap value around there.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..geometry import from_cells, to_cells
from ..resources import WEIGHTS
from ..skeleton import COCO_17, Skeleton

FILE = WEIGHTS / "coco17-prior.npz"
NOISE = 0.06  # variance of a found joint about its pose, of size 1; it keeps few joints from deciding all
REACH = 3.0  # standard deviations around a guess in which the heatmap is asked
EVIDENCE = 0.03  # least heatmap value that moves a guess; noise of trained networks stays below


@dataclass(frozen=True)
class PosePrior:
    """A Gaussian over poses moved and scaled to lie on the mean pose.

    Attributes:
        mean: (K, 2) x, y; its centre is 0 and its joints' root mean square distance from there is 1.
        covariance: (2 K, 2 K) in the order of the flattened mean.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, skeleton: Skeleton) -> PosePrior:
        """The one for a skeleton.

        Raises:
            ConfigError: there is none.
        """
        if not cls.known(skeleton):
            raise ConfigError(
                f"no prior of poses for the joints of {skeleton.name}, only for COCO's 17; leave out complete"
            )
        return _read(FILE)

    @staticmethod
    def known(skeleton: Skeleton) -> bool:
        """Whether there is one for its joints, whatever it is called."""
        return skeleton.joints == COCO_17.joints

    def expect(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected joints of one person, given those found.

        Args:
            xy: (K, 2), NaN where not found; at least two different points.

        Returns:
            (K, 2) with what was found left as it is; (K,) standard deviation of the others along an axis, 0 for found
            ones, in the units of ``xy``.
        """
        known = ~np.isnan(xy[:, 0])
        found, model = xy[known], self.mean[known]
        centre, origin = found.mean(0), model.mean(0)
        scale = np.sqrt(((found - centre) ** 2).sum() / ((model - origin) ** 2).sum())  # both spread alike
        seen = np.repeat(known, 2)
        inside = self.covariance[np.ix_(seen, seen)] + NOISE * np.eye(seen.sum())
        across = self.covariance[np.ix_(~seen, seen)]
        gain = np.linalg.solve(inside, across.T).T
        offset = ((found - centre) / scale + origin - model).ravel()
        shift = (gain @ offset).reshape(-1, 2)
        left = (np.diag(self.covariance)[~seen] - (gain * across).sum(1)).reshape(-1, 2).mean(1)
        expected, spread = xy.astype(float), np.zeros(len(xy))
        expected[~known] = (self.mean[~known] + shift - origin) * scale + centre
        spread[~known] = np.sqrt(np.maximum(left, 0)) * scale
        return expected, spread


@cache
def _read(path: Path) -> PosePrior:
    with np.load(path) as file:
        return PosePrior(file["mean"].astype(float), file["covariance"].astype(float))


def complete(
    xy: np.ndarray, score: np.ndarray, heatmaps: np.ndarray, skeleton: Skeleton, stride: int, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fill in the joints that were not found.

    A guess may lie where another person's joint was found: hidden joints are often behind another person.

    Args:
        xy: (N, K, 2) input pixels, NaN where not found.
        score: (N, K), 0 where not found.
        heatmaps: (K, h, w) of the image.
        skeleton: K joints.
        stride: input pixels a cell of the heatmaps.
        least: score of a found joint.

    Returns:
        xy without NaN, but for people with all found joints in one place; score, of guesses between a
        twentieth and a half of ``least``, by the heatmap's value there.

    Raises:
        ConfigError: there is no prior for these joints.
    """
    prior = PosePrior.of(skeleton)
    xy, score = xy.astype(np.float32), score.copy()
    for person in range(len(xy)):
        missing = np.flatnonzero(np.isnan(xy[person, :, 0]))
        if not len(missing) or (np.nanmax(xy[person], 0) == np.nanmin(xy[person], 0)).all():
            continue
        expected, spread = prior.expect(xy[person])
        for joint in missing:
            at, sigma = to_cells(expected[joint], stride), max(spread[joint] / stride, 0.5)
            place, value = _look(heatmaps[joint], at, sigma)
            xy[person, joint] = expected[joint] if place is None else from_cells(place, stride)
            score[person, joint] = max(min(value, least) / 2, least / 20)
    return xy, score


def _look(heat: np.ndarray, at: np.ndarray, sigma: float) -> tuple[np.ndarray | None, float]:
    """The best cell (x, y) of a heatmap (h, w) around a place, near ones before far ones, and its value; or None, 0."""
    h, w = heat.shape
    low = np.clip(np.ceil(at - REACH * sigma), 0, (w, h)).astype(int)
    high = np.clip(np.floor(at + REACH * sigma) + 1, low, (w, h)).astype(int)
    window = heat[low[1] : high[1], low[0] : high[0]]
    if not window.size:
        return None, 0.0
    x, y = (np.exp(-(((np.arange(low[i], high[i]) - at[i]) / sigma) ** 2) / 2) for i in (0, 1))
    row, column = np.unravel_index((window * np.outer(y, x)).argmax(), window.shape)
    value = float(window[row, column])
    return (low + np.array([column, row]), value) if value > EVIDENCE else (None, 0.0)
