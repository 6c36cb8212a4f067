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

from .image import from_cells, to_cells
from .skeleton import COCO_17, Head, Skeleton

PRIORS = {COCO_17.name: Path(__file__).parent / "weights" / "coco17-prior.npz"}
NOISE = 0.06  # variance of a found joint about its pose, of size 1; it keeps few joints from deciding all
REACH = 3.0  # standard deviations around a guess in which the heatmap is asked
EVIDENCE = 0.03  # least heatmap value that moves a guess; noise of trained networks stays below
GUESS = 0.01  # score of a guess that no heatmap supports


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
            ValueError: there is none.
        """
        if skeleton.name not in PRIORS:
            raise ValueError(f"no prior of poses for {skeleton.name}; there is one for {', '.join(PRIORS)}")
        return _read(PRIORS[skeleton.name])

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


def complete(xy: np.ndarray, score: np.ndarray, heatmaps: np.ndarray, head: Head) -> tuple[np.ndarray, np.ndarray]:
    """Fill in the joints that were not found.

    Args:
        xy: (N, K, 2) input pixels, NaN where not found.
        score: (N, K), 0 where not found.
        heatmaps: (K', h, w) of the picture, K' in the order of ``head.skeleton`` (and a background).
        head: what they mean.

    Returns:
        xy without NaN, but for people of whom all found joints are in one place; score with the heatmap's value there,
        at least :data:`GUESS`, for joints filled in.
    """
    prior = PosePrior.of(head.output)
    xy, score = xy.astype(np.float32), score.copy()
    _, h, w = heatmaps.shape
    rows, columns = np.mgrid[:h, :w]
    for person in range(len(xy)):
        missing = np.flatnonzero(np.isnan(xy[person, :, 0]))
        if not len(missing) or (np.nanmax(xy[person], 0) == np.nanmin(xy[person], 0)).all():
            continue
        expected, spread = prior.expect(xy[person])
        at = to_cells(expected[missing], head.stride)
        sigma = np.maximum(spread[missing] / head.stride, 0.5)[:, None, None]
        away = ((columns - at[:, 0, None, None]) ** 2 + (rows - at[:, 1, None, None]) ** 2) / sigma**2
        heat = heatmaps[np.array(head.output_order)[missing]]
        best = np.where(away < REACH**2, heat * np.exp(-away / 2), 0).reshape(len(missing), -1).argmax(1)
        value = heat.reshape(len(missing), -1)[np.arange(len(missing)), best]
        seen = (value > EVIDENCE) & (away.reshape(len(missing), -1)[np.arange(len(missing)), best] < REACH**2)
        cells = np.stack([best % w, best // w], 1).astype(float)
        xy[person, missing] = np.where(seen[:, None], from_cells(cells, head.stride), expected[missing])
        score[person, missing] = np.where(seen, np.clip(value, GUESS, 1), GUESS)
    return xy, score
