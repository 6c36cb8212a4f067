"""A model against annotated photos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .annotations import KeypointSet
from .metrics import oks
from .predict import Predictor
from .skeleton import COCO_17


def evaluate_oks(
    predictor: Predictor, data: str | Path, split: str = "val", progress: Any = None
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """OKS-AP and AR over a data set in COCO-keypoint form.

    Args:
        predictor: model and input size.
        data: folder or tar archive with ``<split>.json``, or a json.
        split: which json.
        progress: wraps the list of photos, for example ``rich.progress.track``.

    Returns:
        the figures of :func:`lithepose.metrics.oks`, and the COCO results that they were computed from.

    Raises:
        ValueError: the data set's joints are not COCO's 17.
    """
    dataset = KeypointSet.open(data, split)
    if dataset.skeleton.joints != COCO_17.joints:
        raise ValueError(f"{dataset.name}: {len(dataset.skeleton)} joints that are not COCO's 17; OKS needs its sigmas")
    photos: Iterable[Any] = progress(dataset.photos) if progress else dataset.photos
    results = []
    for photo in photos:
        results += predictor(dataset.files.image(photo.file_name)).to_coco(photo.id)
    return oks(dataset.photos, results), results
