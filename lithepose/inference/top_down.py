"""Top-down estimation: a finder locates people, and a single-person network finds the joints of each."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np

from ..arrays import Float, Float32, Int, UInt8
from ..errors import ConfigError, ImageError, MissingFileError
from ..geometry import square
from ..guesses import with_hints
from ..heads.base import Head
from ..heads.boxes import BoxHead, pose_likeness, suppress
from ..heads.pose_prior import PosePrior
from ..media.sources import Frame
from ..poses import Poses
from ..skeleton import FACE, Skeleton
from .box_follower import BoxFollower
from .detector import DETECTOR, PersonDetector
from .estimator import Estimator, OnError, Pipeline
from .inputs import ImageInput, Images, open_image, several
from .models import open_runtime
from .predictor import Predictor

Finder = Predictor | PersonDetector
Box = Sequence[float]
WANTED = 'expected {"image.jpg": [[x, y, width, height], ...], ...}'
LEAST = 0.1  # least size of a box around some joints, relative to the person's box, which is used otherwise
PERSON = 0.34  # lowest score of a person, see :attr:`TopDown.person`
FAR = 3  # largest enlarged box, relative to the image, so that a wrong box does not fill the memory


class BoxError(ImageError):
    """A box that cannot be cropped."""


class TopDown(Estimator):
    """Runs a single-person network on the boxes of all people in an image.

    Args:
        predictor: predictor of a single-person network, or a model for
            :class:`~lithepose.inference.predictor.Predictor`.
        finder: a person detector, a predictor of a multi-person network, or the name or path of one. None uses the
            embedded detector.
        overlap: object keypoint similarity above which the person with the lower score is a duplicate.
        detect_every: in a video, the finder runs at least every so many frames. In between, boxes follow people, see
            :class:`lithepose.inference.box_follower.BoxFollower`. 1 runs it on every frame.
        person: lowest score of a person: the square root of its box's score, times the mean score of its sure joints.
        boxes: boxes of images and videos by name, as from :func:`read_boxes`; :meth:`stream` uses them instead of the
            finder's.

    Raises:
        ConfigError: networks of the wrong kind.
    """

    def __init__(
        self,
        predictor: Predictor | str | Path,
        finder: Finder | str | Path | None = None,
        *,
        overlap: float = 0.75,
        detect_every: int = 5,
        person: float = PERSON,
        boxes: dict[str, list[Box]] | None = None,
    ) -> None:
        predictor = Predictor(predictor) if isinstance(predictor, (str, Path)) else predictor
        if not predictor.single_person:
            name = predictor.runtime.info.name
            raise ConfigError(f"{name} finds all people itself; omit the boxes, or choose a single-person model")
        if detect_every < 1:
            raise ConfigError(f"detect_every={detect_every}: must be 1 or more")
        # The box holds a person: one joint above the threshold is enough.
        self.predictor = predictor.with_config(joints=1)
        finder = open_finder(finder) if isinstance(finder, (str, Path)) else finder
        if isinstance(finder, Predictor):
            if finder.single_person:
                name = finder.runtime.info.name
                raise ConfigError(f"{name}: a single-person network cannot locate people; choose a person detector")
            # With guessed joints, since a box around only a face would cut off the body below it.
            finder = finder.with_config(complete=PosePrior.known(finder.head.output))
        self._finder = finder
        self.overlap, self.detect_every, self.person, self.boxes = overlap, detect_every, person, boxes

    def __repr__(self) -> str:
        return f"<TopDown {self.predictor.runtime.info.name} on boxes of {self._finder or DETECTOR}>"

    @property
    def finder(self) -> Finder:
        """The person detector or predictor that locates people; the embedded detector is opened on first use."""
        if self._finder is None:
            self._finder = PersonDetector()
        return self._finder

    @property
    def head(self) -> Head[Any]:
        """Description of the network's outputs."""
        return self.predictor.head

    @property
    def single_person(self) -> bool:
        """False: it finds all people."""
        return False

    @property
    def size(self) -> int:
        """Longer side of the finder's input, in pixels."""
        return self.finder.size

    @property
    def least(self) -> float:
        """Lowest score of a joint."""
        return self.predictor.config.peak

    @property
    def lowest(self) -> float:
        """Score below which a joint counts as not found."""
        return self.predictor.lowest

    @property
    def guessed(self) -> float:
        """Score below which a joint is a guess."""
        return self.predictor.guessed

    def with_config(self, **changes: Any) -> TopDown:
        """The same models with other thresholds, named as in :class:`~lithepose.heads.base.DecodeConfig`."""
        other = copy.copy(self)
        other.predictor = self.predictor.with_config(**changes)
        return other

    def with_detector(self, **changes: float) -> TopDown:
        """The same models with other values of the person detector's ``score`` or ``overlap``."""
        other, detector = copy.copy(self), copy.copy(self.finder)
        if not isinstance(detector, PersonDetector) or changes.keys() - {"score", "overlap"}:
            raise ConfigError(f"{changes}: only score and overlap of a person detector can be changed")
        for name, value in changes.items():
            setattr(detector, name, value)
        other._finder = detector
        return other

    @overload
    def __call__(self, image: ImageInput, boxes: Iterable[Box] | None = ..., *, on_error: OnError = ...) -> Poses: ...
    @overload
    def __call__(self, image: Images, boxes: None = ..., *, on_error: Literal["raise"] = ...) -> list[Poses]: ...
    @overload
    def __call__(self, image: Images, boxes: None = ..., *, on_error: OnError) -> list[Poses | None]: ...
    @with_hints
    def __call__(
        self, image: ImageInput | Images, boxes: Iterable[Box] | None = None, *, on_error: OnError = "raise"
    ) -> Poses | list[Any]:
        """Find people.

        Args:
            image: as in :meth:`lithepose.inference.estimator.Estimator.__call__`.
            boxes: (N, 4) x, y, width, height around the people of one image, in pixels; by default the finder's.
            on_error: likewise.

        Returns:
            Poses, at most one person per box, the best first; or a list of them for a list.

        Raises:
            BoxError: a box without a size, outside of the image or far larger than it.
            ImageError: the input is not an image.
        """
        if boxes is None:
            return super().__call__(image, on_error=on_error)
        if several(image) is not None:
            raise ConfigError("boxes belong to one image; pass one image at a time")
        image = open_image(image)
        checked = [_checked(box, (image.shape[1], image.shape[0])) for box in boxes]
        given = np.array(checked, np.float32).reshape(-1, 4)
        poses, _ = self.on_boxes(image, given, np.ones(len(given), np.float32))
        return replace(poses, image=image)

    def estimate(self, images: list[np.ndarray]) -> list[Poses]:
        """People of (H, W, 3) uint8 RGB images."""
        return [self.sure(self.on_boxes(image, *self.find(image))[0]) for image in images]

    def sure(self, poses: Poses) -> Poses:
        """The people who score at least :attr:`person`."""
        return poses[poses.person_score >= self.person]

    def pipeline(self) -> Pipeline:
        """A call with one image; in a video, boxes follow people from frame to frame."""
        if self.boxes is not None:
            return Pipeline.whole(self._on_given_boxes)
        return Pipeline.following(lambda: BoxFollower(self), lambda frame: self.estimate([frame.image])[0])

    def _on_given_boxes(self, frame: Frame) -> Poses:
        try:
            return self(frame.image, boxes_of(self.boxes or {}, frame.source) or ())
        except BoxError as error:
            raise BoxError(f"{frame.name}: {error}") from error

    def find(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[Float32[np.ndarray, "n 4"], Float32[np.ndarray, " n"]]:
        """Boxes (N, 4), x, y, width, height, and scores (N,) of the people in an image."""
        finder = self.finder
        if isinstance(finder, PersonDetector):
            boxes = finder(image)
            return boxes.xywh, boxes.score
        people = finder(image)
        known = joints_to_see(self.head.output, people.skeleton)
        boxes = [
            box_to_see(xy, found & known, whole)
            for xy, found, whole in zip(people.xy, people.found, people.boxes, strict=True)
            if max(whole[2:]) > 0
        ]
        return np.array(boxes, np.float32).reshape(-1, 4), np.ones(len(boxes), np.float32)

    def on_boxes(
        self,
        image: UInt8[np.ndarray, "h w 3"],
        boxes: Float[np.ndarray, "n 4"],
        scores: Float[np.ndarray, " n"],
        small: bool = False,
    ) -> tuple[Poses, Int[np.ndarray, " kept"]]:
        """Poses of the people in boxes, all crops in one batch; without duplicates, the best first.

        Args:
            image: (H, W, 3) uint8 RGB.
            boxes: (N, 4) x, y, width, height in pixels.
            scores: (N,) scores of the boxes, in [0, 1]. The score of a person is the square root of its box's score,
                times the mean score of its sure joints.
            small: run the network on smaller crops, if it was trained on them: faster, but slightly less accurate.

        Returns:
            the people, and the index of each person's box.
        """
        size, skeleton = (image.shape[1], image.shape[0]), self.head.output
        found = self.predictor.around(image, boxes.tolist(), small)
        where = [i for i, poses in enumerate(found) if len(poses)]
        if not where:
            empty = Poses.empty(skeleton, size)
            return replace(empty, box=np.zeros((0, 4), np.float32)), np.zeros(0, np.intp)
        xy, score, person_score = (
            np.concatenate([getattr(found[i], name)[:1] for i in where]) for name in ("xy", "score", "person_score")
        )
        person_score, boxes = person_score * np.sqrt(scores[where]), boxes[where]
        order = np.argsort(-person_score, kind="stable")
        likeness = pose_likeness(xy[order], score[order], boxes[order, 2:].prod(1), skeleton)
        order = order[suppress(likeness, self.overlap)]
        poses = Poses(xy[order], score[order], person_score[order], skeleton, size, box=boxes[order])
        return poses, np.array(where, np.intp)[order]


def open_finder(model: str | Path, threads: int = 0, size: int = 0, **engine: str) -> Finder:
    """A person detector or a multi-person pose model, by name or file; arguments as in :class:`PersonDetector`."""
    network = open_runtime(model, threads, **engine)
    if isinstance(network.info.head, BoxHead):
        return PersonDetector(network, size=size)
    return Predictor(network, size=size)


def joints_to_see(model: Skeleton, people: Skeleton) -> np.ndarray:
    """(K,) bool: joints that a single-person network needs in its input; a network of upper bodies needs no legs.

    These are the joints that the network knows, and those of the face if it knows the top of the head.
    """
    known = {*model.joints, *(FACE if "head_top" in model.joints else ())}
    return np.isin(people.joints, list(known))


def box_to_see(xy: np.ndarray, there: np.ndarray, whole: Box) -> list[float]:
    """The box around some joints of a person.

    Args:
        xy: (K, 2) joints.
        there: (K,) bool, joints to use.
        whole: box of the person, used if these joints lie in one place, or nearly.
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
        size: (width, height) of the image that the box must overlap, if known.

    Raises:
        BoxError: names the box and what is wrong with it.
    """
    try:
        numbers = [] if isinstance(box, str) else [float(value) for value in box]
    except (TypeError, ValueError):
        numbers = []
    if len(numbers) != 4 or not np.isfinite(numbers).all() or min(numbers[2:]) <= 0:
        raise BoxError(f"box {box!r}: must be x, y, width and height, with width and height above 0")
    if size:
        x, y, w, h = numbers
        if x + w <= 0 or y + h <= 0 or x >= size[0] or y >= size[1] or square(numbers)[2] > FAR * max(size):
            raise BoxError(f"box {numbers}: outside the image of {size[0]}x{size[1]} pixels, or much larger than it")
    return numbers


def read_boxes(path: str | Path) -> dict[str, list[Box]]:
    """Boxes by image, from a json ``{"image.jpg": [[x, y, width, height], ...]}``; a video's boxes are for all frames.

    Raises:
        MissingFileError: no such file.
        ConfigError: it has another form.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such file; pass a JSON file of boxes, or a model that finds people")
    try:
        boxes = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ConfigError(f"{path}: not a valid JSON file ({error}); {WANTED}") from error
    if not isinstance(boxes, dict) or not all(isinstance(given, list) for given in boxes.values()):
        raise ConfigError(f"{path}: must contain a list of boxes for every image; {WANTED}")
    checked: dict[str, list[Box]] = {}
    for name, given in boxes.items():
        try:
            checked[name] = [_checked(box) for box in given]
        except BoxError as error:
            raise ConfigError(f"{path}: {name}: {error}; {WANTED}") from error
    return checked


def boxes_of(boxes: dict[str, list[Box]], source: str) -> list[Box] | None:
    """The boxes of one image, by its path or only its file name; None if it is not listed."""
    return boxes.get(source, boxes.get(os.path.basename(source)))
