"""A prior over poses, which estimates joints that a network did not find.

COCO's average precision counts a missing joint as wrong, even a hidden one, so all compared methods output every joint.
Here the estimate is the position that a Gaussian over whole poses expects, given the joints found, or the best heatmap
value near it.
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
NOISE = 0.06  # variance of a found joint, for a pose of size 1; limits the influence of few joints
REACH = 3.0  # radius of the heatmap search around a guess, in standard deviations
EVIDENCE = 0.03  # lowest heatmap value that moves a guess; the noise of trained networks is below it


@dataclass(frozen=True)
class PosePrior:
    """A Gaussian over poses that are moved and scaled to the mean pose.

    Attributes:
        mean: (K, 2) x, y, with centre 0 and a root mean square distance of 1 from it.
        covariance: (2 K, 2 K), in the order of the flattened mean.
    """

    mean: np.ndarray
    covariance: np.ndarray

    @classmethod
    def of(cls, skeleton: Skeleton) -> PosePrior:
        """Return the prior of a skeleton.

        Raises:
            ConfigError: there is none.
        """
        if not cls.known(skeleton):
            raise ConfigError(
                f"no pose prior for the joints of {skeleton.name}, only for COCO's 17 joints; omit complete"
            )
        return _read(FILE)

    @staticmethod
    def known(skeleton: Skeleton) -> bool:
        """Whether there is a prior for the skeleton's joints; its name does not matter."""
        return skeleton.joints == COCO_17.joints

    def expect(self, xy: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Estimate all joints of one person from those found.

        Args:
            xy: (K, 2), NaN where not found; at least two different points.

        Returns:
            (K, 2) with the found joints unchanged; (K,) standard deviation of the others along an axis, 0 for found
            joints, in the units of ``xy``.
        """
        known = ~np.isnan(xy[:, 0])
        found, model = xy[known], self.mean[known]
        centre, origin = found.mean(0), model.mean(0)
        scale = np.sqrt(((found - centre) ** 2).sum() / ((model - origin) ** 2).sum())  # so that spreads are equal
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

    A guess may lie on a joint of another person, because hidden joints are often behind another person.

    Args:
        xy: (N, K, 2) input pixels, NaN where not found.
        score: (N, K), 0 where not found.
        heatmaps: (K, h, w) of the image.
        skeleton: K joints.
        stride: input pixels per cell of the heatmaps.
        least: threshold of a found joint.

    Returns:
        xy without NaN, except for people with all found joints in one place; score, where guesses have between a
        twentieth and a half of ``least``, depending on the heatmap's value.

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
    """Find the best cell (x, y) of a heatmap (h, w) near a point, weighted by distance, and its value; or None, 0."""
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
