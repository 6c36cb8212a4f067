"""Poses as json: lithepose's own, COCO's and OpenPose's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..errors import DatasetError
from ..skeleton import BODY_25, COCO_17, OPENPOSE_18, SKELETONS, Skeleton
from .tables import rounded

OPENPOSE_PARTS = ("face", "hand_left", "hand_right")  # parts of OpenPose's json that lithepose does not find


class AsJson:
    """The json formats that :class:`~lithepose.poses.Poses` are written to and read from."""

    if TYPE_CHECKING:
        xy: np.ndarray
        score: np.ndarray
        person_score: np.ndarray
        skeleton: Skeleton
        size: tuple[int, int]
        id: np.ndarray | None

        @property
        def joints(self) -> tuple[str, ...]: ...

        @property
        def boxes(self) -> np.ndarray: ...

        def __init__(self, *fields: Any) -> None: ...
        def __len__(self) -> int: ...
        def to_numpy(self) -> np.ndarray: ...
        def to_skeleton(self, skeleton: Skeleton) -> Self: ...

    def to_dict(self) -> dict[str, Any]:
        """lithepose's own json: joints by name, ``null`` where not found. :meth:`from_dict` reads it back."""
        people = []
        for person in range(len(self)):
            joints = {
                name: [rounded(x), rounded(y), rounded(s, 4)] if s > 0 else None
                for name, (x, y), s in zip(self.joints, self.xy[person], self.score[person], strict=True)
            }
            score, box = rounded(self.person_score[person], 4), [rounded(side) for side in self.boxes[person]]
            people.append(self._ids("id", person) | {"score": score, "box": box, "joints": joints})
        return {"width": self.size[0], "height": self.size[1], "skeleton": self.skeleton.name, "people": people}

    def _ids(self, key: str, person: int) -> dict[str, int]:
        return {} if self.id is None else {key: int(self.id[person])}

    @classmethod
    def from_dict(cls, data: dict[str, Any], skeleton: Skeleton | None = None) -> Self:
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
            given = [p["box"] for p in data["people"] if "box" in p]
            boxes = np.array(given, np.float32).reshape(-1, 4) if len(given) == len(rows) > 0 else None
            return cls(flat[..., :2], flat[..., 2], scores, skeleton, (data["width"], data["height"]), ids, boxes)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"not a valid lithepose JSON ({error!r})") from error

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """COCO keypoint results, one dict per person: x, y, score triples in COCO-17 order, zeros where not found."""
        flat = np.nan_to_num(self.to_skeleton(COCO_17).to_numpy()).reshape(len(self), 3 * len(COCO_17))
        return [
            {
                "image_id": image_id,
                "category_id": 1,
                "keypoints": [rounded(v, 3) for v in keypoints],
                "score": rounded(score, 5),
                "bbox": [rounded(v) for v in box],
                **self._ids("track_id", person),
            }
            for person, (keypoints, score, box) in enumerate(zip(flat, self.person_score, self.boxes, strict=True))
        ]

    @classmethod
    def from_coco(cls, results: list[dict[str, Any]], size: tuple[int, int]) -> Self:
        """Read the COCO keypoint results of one image; (0, 0, 0) means not found.

        Raises:
            DatasetError: a result without keypoints or score, or with a number of joints other than 17.
        """
        try:
            flat = np.array([r["keypoints"] for r in results], np.float32).reshape(len(results), 17, 3)
            scores = np.array([r["score"] for r in results], np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise DatasetError(f"not COCO keypoint results with 17 joints ({error!r})") from error
        xy = np.where(flat[..., 2:] > 0, flat[..., :2], np.nan).astype(np.float32)
        ids = [r.get("track_id") for r in results]
        known = np.array(ids, np.int64) if ids and None not in ids else None
        return cls(xy, flat[..., 2], scores, COCO_17, size, known)

    def to_openpose(self, skeleton: Skeleton = OPENPOSE_18, source: str = "") -> dict[str, Any]:
        """OpenPose's json of one image, zeros where not found.

        Besides OpenPose's own keys it has ``joints``, the names of the joints, and ``source``, if given.

        Args:
            skeleton: :data:`OPENPOSE_18` or :data:`BODY_25`. Models without feet get zeros for them.
            source: name of the image.
        """
        flat = np.nan_to_num(self.to_skeleton(skeleton).to_numpy()).reshape(len(self), 3 * len(skeleton))
        ids = [-1] * len(self) if self.id is None else self.id.tolist()
        people = [
            {"person_id": [number], "pose_keypoints_2d": [rounded(v, 3) for v in person]}
            | {f"{part}_keypoints_{axes}": [] for axes in ("2d", "3d") for part in OPENPOSE_PARTS}
            | {"pose_keypoints_3d": []}
            for number, person in zip(ids, flat, strict=True)
        ]
        named = {"source": source} if source else {}
        return {"version": 1.3, "joints": skeleton.joints, **named, "people": people}

    @classmethod
    def from_openpose(cls, data: dict[str, Any], size: tuple[int, int]) -> Self:
        """Read an OpenPose json of 18 joints (COCO) or 25 (BODY_25).

        Raises:
            DatasetError: it has another form, or people with another number of joints.
        """
        try:
            rows = [person["pose_keypoints_2d"] for person in data["people"]]
        except (KeyError, TypeError) as error:
            raise DatasetError(f"not a valid OpenPose JSON ({error!r})") from error
        lengths = {len(row) for row in rows}
        skeleton = BODY_25 if lengths == {75} or len(data.get("joints", ())) == 25 else OPENPOSE_18
        if lengths - {3 * len(skeleton)}:
            raise DatasetError("OpenPose JSON must have 18 or 25 joints; write it with --model_pose BODY_25 or COCO")
        flat = np.array(rows, np.float32).reshape(len(rows), len(skeleton), 3)
        found = flat[..., 2] > 0
        xy = np.where(found[..., None], flat[..., :2], np.nan).astype(np.float32)
        mean = flat[..., 2].sum(1) / np.maximum(found.sum(1), 1)
        ids = np.array([person.get("person_id", [-1])[0] for person in data["people"]], np.int64)
        return cls(xy, flat[..., 2], mean.astype(np.float32), skeleton, size, ids if (ids >= 0).any() else None)

    def to_json(self, **options: Any) -> str:
        """:meth:`to_dict` as text; options as in ``json.dumps``."""
        return json.dumps(self.to_dict(), **options)
