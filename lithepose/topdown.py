"""Networks of one person at work on several: everybody cut out of the picture and looked at alone."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from .image import cut
from .poses import Poses
from .predict import Picture, Predictor, open_picture
from .prior import PRIORS

MARGIN = 1.5  # a box around joints is enlarged by this before a network looks at one person, as paper 003 crops

Box = Sequence[float]


def square(box: Box) -> list[float]:
    """The square that a network of one person looks at: around the same centre, the longer side times the margin.

    Args:
        box: x, y, width, height in pixels.
    """
    x, y, w, h = box
    side = MARGIN * max(w, h)
    return [x + w / 2 - side / 2, y + h / 2 - side / 2, side, side]


class TopDown:
    """Finds people by one model and their joints by another.

    Args:
        predictor: of a network of one person.
        finder: of a network of many people, which tells where to look; not needed where boxes are given.

    Raises:
        ValueError: networks of the wrong kind.
    """

    def __init__(self, predictor: Predictor, finder: Predictor | None = None) -> None:
        for which, wanted in ((predictor, True), (finder, False)):
            if which is not None and which.one_person is not wanted:
                kind = "one person" if wanted else "many people"
                raise ValueError(f"{which.runtime.info.name}: boxes need a network of {kind} here")
        self.predictor, self.finder = predictor, finder
        if finder and finder.head.output.name in PRIORS:
            # A box around a face alone would cut off the body below it.
            self.finder = copy.copy(finder)
            self.finder.config = replace(finder.config, complete=True)

    def __call__(self, picture: Picture, boxes: Sequence[Box] | None = None) -> Poses:
        """Find people.

        Args:
            picture: as of :meth:`lithepose.predict.Predictor.__call__`.
            boxes: (N, 4) x, y, width, height around people, in pixels; by default where the finder sees them. Each is
                enlarged to a square, see :func:`square`.

        Returns:
            Poses of the predictor's joints, at most one person a box, the best first.

        Raises:
            ValueError: neither boxes nor a finder; or a box without a size.
        """
        image = open_picture(picture)
        if boxes is None:
            if self.finder is None:
                raise ValueError("boxes needed: give some, or a model that finds people")
            boxes = list(self.finder(image).boxes)
        for box in boxes:
            if len(box) != 4 or not np.isfinite(box).all() or min(box[2:]) <= 0:
                raise ValueError(f"box {list(box)}: must be x, y, width, height, the latter two above 0")
        cuts = [cut(image, square(box)) for box in boxes]
        found = self.predictor([crop for crop, _ in cuts])
        kept = [(poses, corner) for poses, (_, corner) in zip(found, cuts, strict=True) if len(poses)]
        size = image.shape[1], image.shape[0]
        if not kept:
            return Poses.nobody(self.predictor.head.output, size)
        xy = np.concatenate([poses.xy[:1] + corner.astype(np.float32) for poses, corner in kept])
        score = np.concatenate([poses.score[:1] for poses, _ in kept])
        person_score = np.concatenate([poses.person_score[:1] for poses, _ in kept])
        order = np.argsort(-person_score, kind="stable")
        return Poses(xy, score, person_score, self.predictor.head.output, size)[order]


def read_boxes(path: str | Path) -> dict[str, list[Box]]:
    """Boxes by picture, from a json ``{"photo.jpg": [[x, y, width, height], ...]}``; a video's are for all its frames.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds something else.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such file; name a json of boxes, or a model that finds people")
    try:
        boxes = json.loads(Path(path).read_text(encoding="utf-8"))
        return {name: [[float(value) for value in box] for box in some] for name, some in boxes.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
            f'{path}: no boxes ({error}); it must read {{"photo.jpg": [[x, y, width, height], ...], ...}}'
        ) from error


def boxes_of(boxes: dict[str, list[Box]], source: str) -> list[Box] | None:
    """Those of one picture, named by its path or its file's name alone; None if it is not there."""
    return boxes.get(source, boxes.get(os.path.basename(source)))
