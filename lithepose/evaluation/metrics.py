"""Metrics: OKS-AP and AR by faster-coco-eval, PCK, PCKh and their curves."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from ..arrays import Float, Int
from ..data.coco import ImageRecord
from ..errors import DatasetError, MissingExtraError
from ..skeleton import COCO_17, Skeleton

NAMES = ("AP", "AP50", "AP75", "AP medium", "AP large", "AR", "AR50", "AR75", "AR medium", "AR large")
# Figures of boxes by their index in COCO's summary.
BOX_NAMES = {"AP": 0, "AP50": 1, "AP75": 2, "AP small": 3, "AP medium": 4, "AP large": 5, "AR": 8}


def oks(
    records: tuple[ImageRecord, ...], results: list[dict[str, Any]], skeleton: Skeleton = COCO_17
) -> dict[str, float]:
    """Average precision and recall of object keypoint similarity (COCO's keypoint challenge).

    Crowds and people without keypoints are ignored regions, as in the challenge.

    Args:
        records: annotated images.
        results: COCO keypoint results with their ``image_id``; at most 20 per image count.
        skeleton: its sigmas weight the joints.

    Returns:
        the ten figures under :data:`NAMES`, in [0, 1].

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
        DatasetError: the skeleton has no sigmas.
    """
    if not skeleton.sigmas:
        raise DatasetError(
            f"skeleton {skeleton.name} has no OKS sigmas; add a list `sigmas` to the category in its JSON file, with"
            " one number per joint"
        )
    # Without boxes, the results' area comes from their joints, including those at 0, 0, as in COCO's own tools.
    # The area decides between medium and large.
    results = [{k: v for k, v in r.items() if k != "bbox"} for r in results]
    options = {"kpt_oks_sigmas": list(skeleton.sigmas)}
    return dict(zip(NAMES, _coco(records, results, skeleton, "keypoints", options), strict=False))


def box_precision(
    records: tuple[ImageRecord, ...], results: list[dict[str, Any]], skeleton: Skeleton
) -> dict[str, float]:
    """Average precision and recall of boxes of people (COCO's detection challenge), also of people without keypoints.

    Args:
        records: annotated images; crowds are ignored regions.
        results: COCO detection results: ``image_id``, ``bbox``, ``score``; at most 100 per image count.
        skeleton: skeleton of the annotations.

    Returns:
        figures under :data:`BOX_NAMES`, in [0, 1].

    Raises:
        MissingExtraError: faster-coco-eval is not installed.
    """
    stats = _coco(records, results, skeleton, "bbox", {})
    return {name: stats[i] for name, i in BOX_NAMES.items() if i < len(stats)}


def _coco(
    records: tuple[ImageRecord, ...],
    results: list[dict[str, Any]],
    skeleton: Skeleton,
    kind: Literal["keypoints", "bbox"],
    options: dict[str, Any],
) -> list[float]:
    """Return the summary of COCO's evaluation; zeros if there are no results."""
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise MissingExtraError("evaluate needs faster-coco-eval: pip install 'lithepose[evaluate]'") from error
    if not results:
        return [0.0] * 12
    truth = {
        "images": [{"id": p.id, "width": p.width, "height": p.height} for p in records],
        "annotations": [
            {**a, "id": i, "image_id": p.id, "category_id": 1, "iscrowd": a.get("iscrowd", 0)}
            for i, (p, a) in enumerate(((p, a) for p in records for a in p.people), 1)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.joints)}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(truth)
        evaluation = COCOeval_faster(ground, ground.loadRes(results), kind, **options)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.asarray(evaluation.stats, float).tolist()


@dataclass(frozen=True)
class Pck:
    """Share of correct joints over a range of thresholds.

    Attributes:
        thresholds: (T,) ascending, in units of the reference length.
        correct: (T, K) share of joint k's labelled instances within the threshold; NaN where it is never labelled.
        count: (K,) labelled instances.
    """

    thresholds: Float[np.ndarray, " t"]
    correct: Float[np.ndarray, "t k"]
    count: Int[np.ndarray, " k"]

    def at(self, threshold: float, joints: list[int] | None = None) -> float:
        """Share of all labelled instances, of ``joints`` or of all, that are correct; weighted by count.

        Raises:
            DatasetError: the threshold was not measured.
        """
        row = int(np.abs(self.thresholds - threshold).argmin())
        if abs(self.thresholds[row] - threshold) > 1e-9:
            raise DatasetError(
                f"threshold {threshold}: not measured; choose one from {self.thresholds[0]} to {self.thresholds[-1]}"
            )
        which = list(range(len(self.count))) if joints is None else joints
        count = self.count[which]
        return float(np.nan_to_num(self.correct[row, which]) @ count / max(count.sum(), 1))

    def area(self, joints: list[int] | None = None) -> float:
        """Area under the curve, the mean over all thresholds."""
        return float(np.mean([self.at(t, joints) for t in self.thresholds]))


def pck(
    truth: Float[np.ndarray, "n k 3"],
    found: Float[np.ndarray, "n k 2"],
    reference: Float[np.ndarray, " n"],
    thresholds: Float[np.ndarray, " t"],
) -> Pck:
    """Compare predictions with labels, joint by joint.

    Args:
        truth: (N, K, 3) x, y, visibility; unlabelled joints (0) do not count.
        found: (N, K, 2) in the same order; NaN for joints not found, which count as wrong.
        reference: (N,) reference length of every person in pixels; NaN or 0 leaves the person out.
        thresholds: (T,) in units of the reference length.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        distance = np.hypot(*np.moveaxis(truth[..., :2] - found, 2, 0)) / reference[:, None]
    known = (reference > 0)[:, None] & (truth[..., 2] > 0)
    count = known.sum(0)
    # A comparison with NaN (not found) is false.
    hits = (distance[None] <= thresholds[:, None, None]) & known[None]
    correct = hits.sum(1) / np.where(count > 0, count, np.nan)
    return Pck(thresholds, correct, count)


def torso_length(truth: Float[np.ndarray, "n k 3"], skeleton: Skeleton) -> Float[np.ndarray, " n"]:
    """Reference of PCK on FLIC and LSP: left hip to right shoulder, (N, K, 3) -> (N,), NaN if one is unlabelled.

    Raises:
        DatasetError: the skeleton lacks one of these joints.
    """
    try:
        pair = [skeleton.joints.index(name) for name in ("left_hip", "right_shoulder")]
    except ValueError as error:
        raise DatasetError(f"PCK needs left_hip and right_shoulder, which {skeleton.name} does not have") from error
    length = np.hypot(*(truth[:, pair[0], :2] - truth[:, pair[1], :2]).T)
    return np.where((truth[:, pair, 2] > 0).all(1), length, np.nan)
