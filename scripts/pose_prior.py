"""Fit the Gaussian over poses that estimates joints that a network did not find.

    python scripts/pose_prior.py --data DATA

Runs expectation-maximization over annotated people of the training sets, each moved and scaled to the mean pose. Joints
without a label are filled in with the Gaussian's expectation. Writes ``lithepose/weights/coco17-prior.npz``.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import tyro

from lithepose.data.formats import open_dataset
from lithepose.heads.pose_prior import FILE, PosePrior
from lithepose.skeleton import COCO_17, Skeleton

LABELLED = 6  # fewest labelled joints of a person
SPORTS = 3000  # people of the sports images; all of them would outweigh everyday poses
RIDGE = 1e-3  # added to variances before dividing by them
ASPECT = 0.75, 1.35  # aspect of images that were squashed to squares


def main(data: Path, out: Path = FILE, rounds: int = 10) -> None:
    """Fit, and write the file.

    Args:
        data: folder of the recipes' data sets.
        out: file to write.
        rounds: rounds of expectation-maximization.
    """
    rng = np.random.default_rng(0)
    folder = data / "data"
    full = people(folder / "coco-full.tar")
    squashed = people(folder / "coco-squashed.tar", without=ids(folder / "coco-full.tar"))
    squashed[..., 0] *= np.exp(rng.uniform(np.log(ASPECT[0]), np.log(ASPECT[1]), len(squashed)))[:, None]
    sports = people(folder / "lspet-people-train.json.gz", (folder / "lspet-1.tar", folder / "lspet-2.tar"))
    poses = np.concatenate([squashed, full, sports[rng.permutation(len(sports))[:SPORTS]]])
    prior = fit(np.concatenate([poses, mirrored(poses, COCO_17)]), rounds)
    np.savez(out, mean=prior.mean.astype(np.float32), covariance=prior.covariance.astype(np.float32))
    print(f"{len(poses)} people -> {out}")


def ids(path: Path) -> set[int]:
    """Return image ids of a data set, which other sets contain too."""
    return {record.id for split in ("train", "val") for record in open_dataset(path, split).records}


def people(path: Path, images: tuple[Path, ...] = (), without: Collection[int] = ()) -> np.ndarray:
    """Return (N, K, 2) joints of people with enough labels, NaN where not labelled."""
    records = [record for record in open_dataset(path, "train", images).records if record.id not in without]
    everybody = (person for record in records for person in record.people)
    joints = np.array([p["keypoints"] for p in everybody if not p.get("iscrowd")], float).reshape(-1, len(COCO_17), 3)
    joints = joints[(joints[..., 2] > 0).sum(1) >= LABELLED]
    xy = np.where(joints[..., 2:] > 0, joints[..., :2], np.nan)
    return xy[np.nanstd(xy, 1).max(1, initial=0) > 5]


def mirrored(xy: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """Return the same people with left and right swapped."""
    return xy[:, list(skeleton.flip_order)] * [-1, 1]


def fit(xy: np.ndarray, rounds: int) -> PosePrior:
    """Fit a Gaussian over poses, each moved to the mean pose.

    Args:
        xy: (N, K, 2), NaN where not labelled.
        rounds: rounds of expectation-maximization.
    """
    centre, size = np.nanmean(xy, 1, keepdims=True), np.nanstd(xy, 1).mean(1)[:, None, None]
    mean, covariance = np.nanmean((xy - centre) / size, 0), np.eye(2 * xy.shape[1]) / 10
    for _ in range(rounds):
        filled, left = np.empty((len(xy), 2 * xy.shape[1])), np.zeros_like(covariance)
        for i, person in enumerate(xy):
            known = ~np.isnan(person[:, 0])
            found, model = person[known], mean[known]
            offset, origin = found - found.mean(0), model.mean(0)
            # A least-squares fit. It tends to small scales, but not to 0, however different the pose is.
            spread = (offset**2).sum()
            scale = max((offset * (model - origin)).sum() / spread, np.sqrt(len(found) / spread) / 3)
            placed = offset * scale + origin
            seen = np.repeat(known, 2)
            filled[i, seen] = placed.ravel()
            if not known.all():
                inside = covariance[np.ix_(seen, seen)] + RIDGE * np.eye(seen.sum())
                gain = np.linalg.solve(inside, covariance[np.ix_(seen, ~seen)]).T
                filled[i, ~seen] = mean[~known].ravel() + gain @ (placed - model).ravel()
                left[np.ix_(~seen, ~seen)] += covariance[np.ix_(~seen, ~seen)] - gain @ covariance[np.ix_(seen, ~seen)]
        mean = filled.mean(0).reshape(mean.shape)
        covariance = np.cov(filled.T) + left / len(xy)
        mean -= mean.mean(0)
        unit = np.sqrt((mean**2).sum(1).mean())
        mean, covariance = mean / unit, covariance / unit**2
    return PosePrior(mean, covariance)


if __name__ == "__main__":
    tyro.cli(main)
