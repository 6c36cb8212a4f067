"""Networks of one person at work on several: everybody cut out of the picture and looked at alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .image import square
from .poses import Poses
from .predict import Picture, Predictor, open_picture
from .prior import PosePrior
from .skeleton import FACE, Skeleton

Box = Sequence[float]
WANTED = 'it must read {"photo.jpg": [[x, y, width, height], ...], ...}'
LEAST = 0.1  # of a person's box: the shortest side of the square around some of the joints that says where they are
FAR = 3  # times the picture: as far as a box, enlarged, may reach, so that a slip does not fill the memory


class BoxError(ValueError):
    """A box that nobody can be looked at in."""


class TopDown:
    """Finds people by one model and their joints by another.

    Somebody is there, so one joint above the threshold is enough; where there is none, nobody is drawn.

    Args:
        predictor: of a network of one person, or what :class:`~lithepose.predict.Predictor` makes one from.
        finder: likewise of a network of many people, which tells where to look; not needed where boxes are given.

    Raises:
        ValueError: networks of the wrong kind.
    """

    def __init__(self, predictor: Predictor | str | Path, finder: Predictor | str | Path | None = None) -> None:
        predictor = Predictor(predictor) if isinstance(predictor, (str, Path)) else predictor
        finder = Predictor(finder) if isinstance(finder, (str, Path)) else finder
        if not predictor.one_person:
            name = predictor.runtime.info.name
            raise ValueError(f"{name} finds everybody by itself; leave out the boxes, or name a model of one person")
        if finder and finder.one_person:
            raise ValueError(f"{finder.runtime.info.name}: a network of one person cannot tell where people are")
        self.predictor = predictor.with_config(joints=1)
        # With guesses, as a box around a face alone would cut off the body below it.
        self.finder = finder and finder.with_config(complete=PosePrior.known(finder.head.output))

    def __call__(self, picture: Picture, boxes: Iterable[Box] | None = None) -> Poses:
        """Find people.

        Args:
            picture: as of :meth:`lithepose.predict.Predictor.__call__`.
            boxes: (N, 4) x, y, width, height around people, in pixels; by default around the joints that the finder
                sees and the predictor knows. Each is enlarged to a square, see :func:`lithepose.image.square`.

        Returns:
            Poses of the predictor's joints, at most one person a box, the best first.

        Raises:
            ValueError: neither boxes nor a finder.
            BoxError: a box without a size, beside the picture or far larger.
            UnreadableImage: what is given is no picture.
        """
        image = open_picture(picture)
        size = image.shape[1], image.shape[0]
        if boxes is not None:
            boxes = [_checked(box, size) for box in boxes]
        elif self.finder is None:
            raise ValueError("no boxes, and no model that finds people; give one of them")
        else:
            people = self.finder(image)
            known = joints_to_see(self.predictor.head.output, people.skeleton)
            boxes = [
                box_to_see(xy, found & known, whole)
                for xy, found, whole in zip(people.xy, people.found, people.boxes, strict=True)
                if max(whole[2:]) > 0
            ]
        found = [self.predictor.within(image, square(box)) for box in boxes]
        found = [poses for poses in found if len(poses)]
        if not found:
            return Poses.nobody(self.predictor.head.output, size)
        xy = np.concatenate([poses.xy for poses in found]).clip(0, np.array(size, np.float32) - 1)
        score, person_score = (np.concatenate([getattr(p, name) for p in found]) for name in ("score", "person_score"))
        order = np.argsort(-person_score, kind="stable")
        return Poses(xy, score, person_score, self.predictor.head.output, size)[order]


def joints_to_see(model: Skeleton, people: Skeleton) -> np.ndarray:
    """Which joints of people a network of one person has to see, (K,) bool: a network of upper bodies needs no legs.

    Those that the network knows, and the face's where it knows the top of the head.
    """
    known = {*model.joints, *(FACE if "head_top" in model.joints else ())}
    return np.isin(people.joints, list(known))


def box_to_see(xy: np.ndarray, there: np.ndarray, whole: Box) -> list[float]:
    """The box around some joints of a person.

    Args:
        xy: (K, 2) joints.
        there: (K,) bool, those to look at.
        whole: box of the person, taken where these joints lie in one place, or nearly.
    """
    if there.any():
        low, high = xy[there].min(0), xy[there].max(0)
        if max(high - low) > LEAST * max(whole[2:]):
            return [*low.tolist(), *(high - low).tolist()]
    return [float(value) for value in whole]


def _checked(box: Any, size: tuple[int, int] | None = None) -> list[float]:
    """A box as four numbers.

    Args:
        box: x, y, width, height.
        size: (width, height) of the picture that it must meet, if that is known.

    Raises:
        BoxError: names the box and what is wrong with it.
    """
    try:
        numbers = [] if isinstance(box, str) else [float(value) for value in box]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not np.isfinite(numbers).all() or min(numbers[2:]) <= 0:
        raise BoxError(f"box {box!r}: must be x, y, width and height, the latter two above 0")
    if size:
        x, y, w, h = numbers
        if x + w <= 0 or y + h <= 0 or x >= size[0] or y >= size[1] or square(numbers)[2] > FAR * max(size):
            raise BoxError(f"box {numbers}: beside the picture of {size[0]}x{size[1]} pixels, or far larger than it")
    return numbers


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
    except ValueError as error:
        raise ValueError(f"{path}: no json ({error}); {WANTED}") from error
    if not isinstance(boxes, dict) or not all(isinstance(some, list) for some in boxes.values()):
        raise ValueError(f"{path}: not a list of boxes for every picture; {WANTED}")
    checked: dict[str, list[Box]] = {}
    for name, some in boxes.items():
        try:
            checked[name] = [_checked(box) for box in some]
        except BoxError as error:
            raise ValueError(f"{path}: {name}: {error}; {WANTED}") from error
    return checked


def boxes_of(boxes: dict[str, list[Box]], source: str) -> list[Box] | None:
    """Those of one picture, named by its path or its file's name alone; None if it is not there."""
    return boxes.get(source, boxes.get(os.path.basename(source)))
