"""Metrics of COCO keypoints, by faster-coco-eval."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np

from .annotations import Photo
from .skeleton import COCO_17, Skeleton

NAMES = ("AP", "AP50", "AP75", "AP medium", "AP large", "AR", "AR50", "AR75", "AR medium", "AR large")


def oks(photos: tuple[Photo, ...], results: list[dict[str, Any]], skeleton: Skeleton = COCO_17) -> dict[str, float]:
    """Average precision and recall under object keypoint similarity (COCO's keypoint challenge).

    Crowds and people without keypoints are ignored regions, as there.

    Args:
        photos: annotated photos.
        results: COCO keypoint results with their ``image_id``; at most 20 a photo count.
        skeleton: its sigmas weigh the joints.

    Returns:
        the ten figures under :data:`NAMES`, in [0, 1].

    Raises:
        ImportError: faster-coco-eval is not installed.
        ValueError: the skeleton has no sigmas.
    """
    try:
        from faster_coco_eval import COCO, COCOeval_faster
    except ImportError as error:
        raise ImportError("evaluate needs faster-coco-eval: pip install 'lithepose[evaluate]'") from error
    if not skeleton.sigmas:
        raise ValueError(f"skeleton {skeleton.name} has no OKS sigmas")
    if not results:
        return dict.fromkeys(NAMES, 0.0)
    truth = {
        "images": [{"id": p.id, "width": p.width, "height": p.height} for p in photos],
        "annotations": [
            {**a, "id": i, "image_id": p.id, "category_id": 1, "iscrowd": a.get("iscrowd", 0)}
            for i, (p, a) in enumerate(((p, a) for p in photos for a in p.people), 1)
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": list(skeleton.joints)}],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(truth)
        # Without boxes the results' area comes from their joints, which is what decides medium and large.
        found = ground.loadRes([{k: v for k, v in r.items() if k != "bbox"} for r in results])
        evaluation = COCOeval_faster(ground, found, "keypoints", kpt_oks_sigmas=list(skeleton.sigmas))
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return dict(zip(NAMES, np.asarray(evaluation.stats, float).tolist(), strict=False))
