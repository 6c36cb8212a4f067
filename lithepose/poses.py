"""Poses: the one result type, and the formats that it is written in and read from."""

from __future__ import annotations

import json
import sys
import tempfile
import webbrowser
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .drawing import draw
from .errors import ConfigError, DatasetError, MissingExtraError
from .image import encode_image, write_image
from .person import Person
from .skeleton import COCO_17, OPENPOSE_18, SKELETONS, Skeleton

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingImports]
    import supervision


CSV_COLUMNS = ("source", "frame", "time", "person", "person_score", "joint", "x", "y", "score", "id")


@dataclass(frozen=True, eq=False)
class Poses:
    """The people of one image, best first.

    Attributes:
        xy: (N, K, 2) float32 joints in pixels of the image, the centre of the top left pixel being (0, 0);
            NaN where a joint was not found.
        score: (N, K) float32 in [0, 1]; 0 where a joint was not found.
        person_score: (N,) float32 in [0, 1].
        skeleton: names and order of the K joints, and how they are joined.
        size: (width, height) of the image.
        id: (N,) int64, the same number for the same person in all frames of a video, -1 where that is not known; None
            without tracking.
        box: (N, 4) float32 x, y, width, height that each person was found in, by a person detector, by following, or as
            the caller gave it; None for models on whole images.
        image: (H, W, 3) uint8 RGB that they were found in, for :meth:`plot`; a call with one image keeps it.
    """

    xy: np.ndarray
    score: np.ndarray
    person_score: np.ndarray
    skeleton: Skeleton
    size: tuple[int, int]
    id: np.ndarray | None = None
    box: np.ndarray | None = None
    image: np.ndarray | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        n, k = len(self.person_score), len(self.skeleton)
        if self.xy.shape != (n, k, 2) or self.score.shape != (n, k):
            raise DatasetError(
                f"{n} people of {k} joints need xy {(n, k, 2)}, score {(n, k)}; not {self.xy.shape}, {self.score.shape}"
            )
        if self.id is not None and len(self.id) != n:
            raise DatasetError(f"{len(self.id)} ids for {n} people")
        if self.box is not None and self.box.shape != (n, 4):
            raise DatasetError(f"boxes of shape {self.box.shape} for {n} people; must be {(n, 4)}")

    @classmethod
    def empty(cls, skeleton: Skeleton, size: tuple[int, int]) -> Poses:
        """The result of an image without people."""
        k = len(skeleton)
        return cls(
            np.zeros((0, k, 2), np.float32), np.zeros((0, k), np.float32), np.zeros(0, np.float32), skeleton, size
        )

    def __repr__(self) -> str:
        people, (width, height) = len(self), self.size
        ids = "" if self.id is None else f", ids {', '.join(map(str, self.id))}"
        return f"<{people} {'person' if people == 1 else 'people'}, {self.skeleton.name}, {width}x{height}{ids}>"

    def __len__(self) -> int:
        return len(self.person_score)

    def __getitem__(self, which: int | slice | np.ndarray | Sequence[int]) -> Poses:
        """Some of the people; a number gives the one person, still as Poses."""
        if isinstance(which, (int, np.integer)):
            which = [range(len(self))[which]]
        number, box = (None if values is None else values[which] for values in (self.id, self.box))
        scores = self.score[which], self.person_score[which]
        return Poses(self.xy[which], *scores, self.skeleton, self.size, number, box, self.image)

    def __iter__(self) -> Iterator[Person]:
        ids = [None] * len(self) if self.id is None else self.id.tolist()
        for row in zip(self.xy, self.score, self.person_score.tolist(), self.boxes, ids, strict=True):
            yield Person(*row[:4], self.skeleton, row[4])

    def sorted_by(self, key: str, descending: bool = True) -> Poses:
        """The same people in another order.

        Args:
            key: score, area (of the box), x or y (of its centre), or id.
            descending: the largest first.

        Raises:
            ConfigError: no such key, or no ids to sort by.
        """
        boxes = self.boxes
        keys = {"score": self.person_score, "area": boxes[:, 2] * boxes[:, 3]}
        keys |= {"x": boxes[:, 0] + boxes[:, 2] / 2, "y": boxes[:, 1] + boxes[:, 3] / 2}
        keys |= {} if self.id is None else {"id": self.id}
        if key not in keys:
            raise ConfigError(f"sorted_by({key!r}): there are {', '.join(keys)}")
        return self[np.argsort(-keys[key] if descending else keys[key], kind="stable")]

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the K joints."""
        return self.skeleton.joints

    @property
    def found(self) -> np.ndarray:
        """(N, K) bool: which joints were found."""
        return self.score > 0

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) float32 x, y, width, height of each person: the detector's, or around the found joints."""
        if self.box is not None:
            return self.box
        if not len(self):
            return np.zeros((0, 4), np.float32)
        found = self.found[..., None]
        low = np.where(found, self.xy, np.inf).min(1)
        high = np.where(found, self.xy, -np.inf).max(1)
        return np.where(found.any(1), np.concatenate([low, high - low], 1), 0).astype(np.float32)

    @property
    def xyxy(self) -> np.ndarray:
        """(N, 4) float32: :attr:`boxes` as x0, y0, x1, y1."""
        boxes = self.boxes
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)

    @property
    def xywh(self) -> np.ndarray:
        """(N, 4) float32: :attr:`boxes`, x and y being those of the upper left corner."""
        return self.boxes

    @property
    def xyn(self) -> np.ndarray:
        """(N, K, 2) float32 joints in shares of the image's width and height."""
        return ((self.xy + 0.5) / np.array(self.size, np.float32)).astype(np.float32)

    def plot(self, image: np.ndarray | None = None, *, threshold: float = 0.0) -> np.ndarray:
        """The people drawn on a copy of the image, (H, W, 3) uint8 RGB.

        Args:
            image: to draw on; by default the one that they were found in, or grey.
            threshold: joints of a lower score are left out.
        """
        image = self.image if image is None else image
        if image is None:
            image = np.full((self.size[1], self.size[0], 3), 127, np.uint8)
        return draw(image, self, threshold=threshold)

    def save(self, path: str | Path, image: np.ndarray | None = None) -> None:
        """Write :meth:`plot` as an image, by the suffix of the path.

        Raises:
            ConfigError: the suffix is no image's.
            OutputError: it cannot be written.
        """
        write_image(Path(path), self.plot(image))

    def show(self, image: np.ndarray | None = None) -> None:
        """Show :meth:`plot`, in the notebook or by the system's viewer of images."""
        notebook = sys.modules.get("IPython")
        if notebook and hasattr(notebook.get_ipython(), "kernel"):  # a terminal has none
            notebook.display.display(notebook.display.Image(data=encode_image(".png", self.plot(image))))
            return
        with tempfile.NamedTemporaryFile(suffix=".png", delete=False) as file:
            path = Path(file.name)
        self.save(path, image)
        webbrowser.open(path.as_uri())

    def _repr_png_(self) -> bytes:
        """How a notebook shows them."""
        return encode_image(".png", self.plot())

    def to_skeleton(self, skeleton: Skeleton) -> Poses:
        """The same people in another skeleton: joints by name; a neck is the midpoint of the shoulders."""
        xy = np.full((len(self), len(skeleton), 2), np.nan, np.float32)
        score = np.zeros((len(self), len(skeleton)), np.float32)
        index = {joint: i for i, joint in enumerate(self.joints)}
        for k, joint in enumerate(skeleton.joints):
            if joint in index:
                xy[:, k], score[:, k] = self.xy[:, index[joint]], self.score[:, index[joint]]
            elif joint == "neck" and {"left_shoulder", "right_shoulder"} <= index.keys():
                ends = [index["left_shoulder"], index["right_shoulder"]]
                xy[:, k], score[:, k] = self.xy[:, ends].mean(1), self.score[:, ends].min(1)
        return Poses(xy, score, self.person_score, skeleton, self.size, self.id, self.box, self.image)

    def to_dict(self) -> dict[str, Any]:
        """lithepose's own json: joints by name, ``null`` where not found. :meth:`from_dict` reads it back."""
        people = []
        for person in range(len(self)):
            joints = {
                name: [_round(x), _round(y), _round(s, 4)] if s > 0 else None
                for name, (x, y), s in zip(self.joints, self.xy[person], self.score[person], strict=True)
            }
            people.append(self._ids("id", person) | {"score": _round(self.person_score[person], 4), "joints": joints})
        return {"width": self.size[0], "height": self.size[1], "skeleton": self.skeleton.name, "people": people}

    def _ids(self, key: str, person: int) -> dict[str, int]:
        return {} if self.id is None else {key: int(self.id[person])}

    @classmethod
    def from_dict(cls, data: dict[str, Any], skeleton: Skeleton | None = None) -> Poses:
        """Read :meth:`to_dict`'s json back.

        Args:
            data: the parsed json.
            skeleton: needed only if its name is not one of lithepose's own.

        Raises:
            DatasetError: the json has another form or an unknown skeleton.
        """
        try:
            skeleton = skeleton or SKELETONS[data["skeleton"]]
            rows = [[p["joints"][name] or (np.nan, np.nan, 0) for name in skeleton.joints] for p in data["people"]]
            flat = np.array(rows, np.float32).reshape(len(rows), len(skeleton), 3)
            scores = np.array([p["score"] for p in data["people"]], np.float32)
            numbers = [p["id"] for p in data["people"] if "id" in p]
            ids = np.array(numbers, np.int64) if len(numbers) == len(rows) > 0 else None
            return cls(flat[..., :2], flat[..., 2], scores, skeleton, (data["width"], data["height"]), ids)
        except (KeyError, TypeError) as error:
            raise DatasetError(f"not a lithepose json ({error!r})") from error

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO keypoint results, one dict a person: x, y, score triples in COCO-17 order, zeros where not found."""
        poses = self if self.skeleton == COCO_17 else self.to_skeleton(COCO_17)
        flat = np.nan_to_num(np.concatenate([poses.xy, poses.score[..., None]], 2)).reshape(
            len(self), 3 * len(poses.skeleton)
        )
        return [
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": [_round(v, 3) for v in keypoints],
                "score": _round(score, 5),
                "bbox": [_round(v) for v in box],
                **self._ids("track_id", person),
            }
            for person, (keypoints, score, box) in enumerate(zip(flat, self.person_score, self.boxes, strict=True))
        ]

    @classmethod
    def from_coco(cls, results: list[dict[str, Any]], size: tuple[int, int]) -> Poses:
        """Read the COCO keypoint results of one image; (0, 0, 0) means not found.

        Raises:
            DatasetError: a result without keypoints or score, or with other than 17 joints.
        """
        try:
            flat = np.array([r["keypoints"] for r in results], np.float32).reshape(len(results), 17, 3)
            scores = np.array([r["score"] for r in results], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"not COCO keypoint results of 17 joints ({error!r})") from error
        xy = np.where(flat[..., 2:] > 0, flat[..., :2], np.nan).astype(np.float32)
        ids = [r.get("track_id") for r in results]
        known = np.array(ids, np.int64) if ids and None not in ids else None
        return cls(xy, flat[..., 2], scores, COCO_17, size, known)

    def to_openpose(self) -> dict[str, Any]:
        """OpenPose's json of one image: its 18 joints with the neck, named in ``joints``, zeros where not found."""
        poses = self if self.skeleton == OPENPOSE_18 else self.to_skeleton(OPENPOSE_18)
        flat = np.nan_to_num(np.concatenate([poses.xy, poses.score[..., None]], 2)).reshape(
            len(self), 3 * len(poses.skeleton)
        )
        ids = [-1] * len(self) if self.id is None else self.id.tolist()
        people = [
            {"person_id": [number], "pose_keypoints_2d": [_round(v, 3) for v in person]}
            for number, person in zip(ids, flat, strict=True)
        ]
        return {"version": 1.3, "joints": OPENPOSE_18.joints, "people": people}

    @classmethod
    def from_openpose(cls, data: dict[str, Any], size: tuple[int, int]) -> Poses:
        """Read an OpenPose json of 18 joints.

        Raises:
            DatasetError: a person has other than 18 joints (OpenPose's BODY_25 has 25), or there are none.
        """
        try:
            rows = [person["pose_keypoints_2d"] for person in data["people"]]
        except (KeyError, TypeError) as error:
            raise DatasetError(f"not a json of OpenPose ({error!r})") from error
        if any(len(row) != 54 for row in rows):
            raise DatasetError("OpenPose json of other than 18 joints; write it with --model_pose COCO")
        flat = np.array(rows, np.float32).reshape(len(rows), 18, 3)
        found = flat[..., 2] > 0
        xy = np.where(found[..., None], flat[..., :2], np.nan).astype(np.float32)
        mean = flat[..., 2].sum(1) / np.maximum(found.sum(1), 1)
        ids = np.array([person.get("person_id", [-1])[0] for person in data["people"]], np.int64)
        return cls(xy, flat[..., 2], mean.astype(np.float32), OPENPOSE_18, size, ids if (ids >= 0).any() else None)

    def to_json(self, **options: Any) -> str:
        """:meth:`to_dict` as text; options as of ``json.dumps``."""
        return json.dumps(self.to_dict(), **options)

    def to_numpy(self) -> np.ndarray:
        """(N, K, 3) float32: x, y and score, NaN and 0 where not found."""
        return np.concatenate([self.xy, self.score[..., None]], 2).astype(np.float32)

    def to_pandas(self, wide: bool = False) -> pandas.DataFrame:
        """A table of the people.

        Args:
            wide: one row a person, with columns like ``nose_x``; by default one row a person and found joint.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError("to_pandas needs pandas: pip install pandas") from error
        if not wide:
            return pandas.DataFrame([row[3:] for row in self.to_rows("")], columns=list(CSV_COLUMNS[3:]))
        columns = [f"{joint}_{value}" for joint in self.joints for value in ("x", "y", "score")]
        table = pandas.DataFrame(self.to_numpy().reshape(len(self), -1), columns=columns)
        table.insert(0, "person_score", self.person_score)
        if self.id is not None:
            table.insert(0, "id", self.id)
        return table

    def to_rows(self, source: str, frame: int | None = None, time: float | None = None) -> list[list[Any]]:
        """Rows under :data:`CSV_COLUMNS`, one a person and found joint."""
        start = [source, "" if frame is None else frame, "" if time is None else round(time, 4)]
        return [
            [
                *start,
                p,
                _round(self.person_score[p], 4),
                self.joints[k],
                *map(_round, self.xy[p, k]),
                _round(self.score[p, k], 4),
                "" if self.id is None else int(self.id[p]),
            ]
            for p, k in np.argwhere(self.found)
        ]

    def to_supervision(self) -> supervision.KeyPoints:
        """As ``supervision.KeyPoints``, for its annotators and trackers (zeros where not found).

        Raises:
            MissingExtraError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise MissingExtraError("to_supervision needs supervision: pip install 'supervision>=0.29'") from error
        return supervision.KeyPoints(
            xy=np.nan_to_num(self.xy), keypoint_confidence=self.score, class_id=np.zeros(len(self), dtype=int)
        )


def _round(value: Any, digits: int = 2) -> float:
    return round(float(value), digits)
