"""Evaluation of a model on annotated images."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..data.coco import ImageRecord, KeypointSet, check_size
from ..data.formats import open_dataset
from ..errors import DatasetError
from ..geometry import square
from ..heads.boxes import box_iou
from ..heads.pose_prior import PosePrior
from ..inference.detector import PersonDetector
from ..inference.estimator import Estimator
from ..inference.predictor import Predictor
from ..inference.top_down import TopDown, box_to_see, joints_to_see
from ..poses import Poses
from ..skeleton import LIP_16, MPII_16, Skeleton
from .metrics import Pck, box_precision, oks, pck, torso_length

Progress = Callable[[tuple[ImageRecord, ...]], Iterable[ImageRecord]]

# Thresholds of the two curves: up to 0.2 as in debnath2018split's figure 5, and up to 0.5 as in MPII's AUC.
THRESHOLDS = {"pck": np.arange(41) / 200, "pckh": np.arange(51) / 100}

# Columns of each data set's published tables: means over these joints.
GROUPS = {
    "head": ("upper_neck", "head_top"),
    "shoulders": ("left_shoulder", "right_shoulder"),
    "elbows": ("left_elbow", "right_elbow"),
    "wrists": ("left_wrist", "right_wrist"),
    "hips": ("left_hip", "right_hip"),
    "knees": ("left_knee", "right_knee"),
    "ankles": ("left_ankle", "right_ankle"),
}
# Height of a person in a detector's input, in pixels.
HEIGHTS = {24.0: "under 24 pixels", 48.0: "24 to 48", 96.0: "48 to 96", 192.0: "96 to 192", np.inf: "from 192"}
UNSURE = 0.05  # lowest score of a person for average precision of poses; a fifth of it for boxes
NOT_COUNTED = ("pelvis", "thorax")  # joints of MPII and LIP that PCKh leaves out of the total


@dataclass(frozen=True)
class Evaluation:
    """Result of :func:`evaluate`.

    Attributes:
        metric: oks, pck, pckh or boxes.
        scores: figures by name, in [0, 1].
        joints: PCK or PCKh of each joint at the largest threshold.
        curve: curve of pck and pckh.
        results: evaluated COCO keypoint results.
        basis: what was measured, in words: which people, and which part of the image the network saw.
    """

    metric: str
    scores: dict[str, float]
    results: list[dict[str, Any]]
    joints: dict[str, float] = field(default_factory=dict)
    curve: Pck | None = None
    basis: str = ""

    @property
    def doubt(self) -> str:
        """Why the figures may be meaningless; empty if there is no sign of it."""
        first, value = next(iter(self.scores.items()))
        if value > 0:
            return ""
        if not self.results:
            return (
                f"{first} is {value:g}: no person was found in any image; check that they show people, in colour and"
                " upright"
            )
        return (
            f"{first} is {value:g}: no person was found where people are labelled; check that the images belong to the"
            " annotations and have the same size, and that the joints are in the order of the category"
        )


def evaluate(
    predictor: Estimator,
    data: str | Path | KeypointSet,
    split: str = "val",
    metric: str = "",
    progress: Progress | None = None,
    complete: bool = True,
    crop: str = "auto",
    min_joints: int = 1,
) -> Evaluation:
    """Evaluate a model on a data set.

    A multi-person network runs on whole images, a single-person network on every annotated person.

    Args:
        predictor: model and input size.
        data: see :func:`lithepose.data.formats.open_dataset`.
        split: split of the data set.
        metric: oks (COCO's ten figures), pckh (relative to head size: MPII, LIP) or pck (relative to the torso: FLIC,
            LSP). Defaults to oks for multi-person networks; for single-person ones to pckh if head sizes are known,
            otherwise to pck.
        progress: wraps the images, for example ``rich.progress.track``.
        complete: for oks, guess the joints of a person that were not found, because every labelled joint counts: see
            :mod:`lithepose.heads.pose_prior`. Models of joints other than COCO's return only the joints they find,
            single-person models return all.
        crop: input of a single-person network. auto: the annotation's ``centre_box``; else the whole image if there is
            no other person in it; else as joints: the square around the joints that the network knows. boxes: for a
            network behind a person detector, the annotated boxes instead of the detector's.
        min_joints: measure only people with at least this many labelled joints that a single-person network knows.

    Raises:
        DatasetError: the metric or crop is unknown, or does not suit the model and the data.
    """
    dataset = data if isinstance(data, KeypointSet) else open_dataset(data, split)
    heads = any("head_size" in person for record in dataset.records for person in record.people)
    if not metric and not heads and predictor.single_person and dataset.skeleton in (MPII_16, LIP_16):
        raise DatasetError(
            f"{dataset.name}: contains no head sizes, which PCKh needs; put gt_valid.mat next to"
            " annot/valid.json, or use --metric pck"
        )
    metric = metric or ("oks" if not predictor.single_person else "pckh" if heads else "pck")
    if metric not in ("oks", *THRESHOLDS):
        raise DatasetError(f"unknown metric {metric!r}; choose one of oks, pck, pckh")
    if crop not in ("auto", "joints", "boxes"):
        raise DatasetError(f"unknown crop {crop!r}; choose one of auto, joints, boxes")
    if crop == "boxes" and not isinstance(predictor, TopDown):
        raise DatasetError("crop boxes: only works with networks behind a person detector, such as lithe")
    if (crop == "joints" or min_joints != 1) and not predictor.single_person:
        raise DatasetError(
            f"crop {crop}, min_joints {min_joints}: only for single-person networks; this network runs on full images"
        )
    if metric == "pckh" and not heads:
        raise DatasetError(f"{dataset.name}: contains no head sizes, which pckh needs (MPII and LIP have them)")
    order = common_joints(predictor.head.output, dataset.skeleton)
    _check_labels(dataset, sum(len(people_to_measure(r, order, min_joints)) for r in dataset.records))
    if metric == "oks" and -1 in order:
        lacking = [name for name, i in zip(dataset.skeleton.joints, order, strict=True) if i < 0]
        raise DatasetError(f"{dataset.name}: has joints that the model does not have ({', '.join(lacking)}); use pck")
    if predictor.single_person:  # every joint is in the image, so the best guess counts, whatever its score
        predictor = predictor.with_config(peak=1e-4, joints=1)
    else:
        guess = complete and metric == "oks" and PosePrior.known(predictor.head.output)
        predictor = predictor.with_config(complete=guess)
        if metric == "oks" and isinstance(predictor, TopDown) and isinstance(predictor.finder, PersonDetector):
            predictor = predictor.with_detector(score=UNSURE)  # average precision also counts people with low scores
            predictor.person = 0.0
    basis = _basis(predictor, dataset, order, crop, min_joints)
    truth, results = [], []
    for record in progress(dataset.records) if progress else dataset.records:
        image = _image_of(dataset, record)
        people = people_to_measure(record, order, min_joints)
        if isinstance(predictor, Predictor) and predictor.single_person:
            boxes = [where_to_look(record, person, dataset.skeleton, predictor.head.output, crop) for person in people]
            found = [_look_at(predictor, image, box) for box in boxes]
        else:
            if crop == "boxes" and isinstance(predictor, TopDown):
                boxes = [[*person["bbox"][:2], *(max(side, 1.0) for side in person["bbox"][2:])] for person in people]
                poses = predictor(image, boxes)
            else:
                poses = predictor(image)
            if metric == "oks":
                results += [
                    _result(record, poses.xy[i], poses.score[i], poses.person_score[i], order)
                    for i in range(len(poses))
                ]
                continue
            found = [_nearest(poses, person, order) for person in people]
        truth += people
        results += [_result(record, xy, score, float(score.mean()), order) for xy, score in found]
    if metric == "oks":
        return Evaluation(metric, oks(dataset.records, results, dataset.skeleton), results, basis=basis)
    where = np.array([person["keypoints"] for person in truth], float).reshape(-1, len(order), 3)
    reference = torso_length(where, dataset.skeleton)
    if metric == "pckh":
        reference = np.array([person.get("head_size", np.nan) for person in truth])
    where[:, np.array(order) < 0, 2] = 0  # joints that the model does not have are not counted
    found_joints = np.array([result["keypoints"] for result in results], float).reshape(-1, len(order), 3)
    at = np.where(found_joints[..., 2:] > 0, found_joints[..., :2], np.nan)
    curve = pck(where, at, reference, THRESHOLDS[metric])
    if not curve.count.any():
        raise DatasetError(f"{dataset.name}: no person has both a labelled joint and the reference length of {metric}")
    scores, joints = _figures(metric, curve, dataset.skeleton)
    return Evaluation(metric, scores, results, joints, curve, basis)


def evaluate_boxes(detector: PersonDetector, dataset: KeypointSet, progress: Progress | None = None) -> Evaluation:
    """Evaluate a person detector on a data set.

    Returns:
        COCO's figures of boxes; recall at an IoU of 0.5 by the height of a person in the detector's input, for boxes
        above the detector's threshold; and the number of false boxes per image.
    """
    _check_labels(dataset, sum(len(record.people) for record in dataset.records))
    sure, detector = detector.score, copy.copy(detector)
    detector.score = UNSURE / 5  # average precision also counts boxes with low scores
    results, found, false = list[dict[str, Any]](), dict[str, list[bool]](), 0
    for record in progress(dataset.records) if progress else dataset.records:
        image = _image_of(dataset, record)
        boxes = detector(image)
        results += [
            {"image_id": record.id, "category_id": 1, "bbox": [float(v) for v in box], "score": float(score)}
            for box, score in zip(boxes.xywh, boxes.score, strict=True)
        ]
        people = np.array([p["bbox"] for p in record.people if not p.get("iscrowd")], np.float32).reshape(-1, 4)
        crowd = np.array([p["bbox"] for p in record.people if p.get("iscrowd")], np.float32).reshape(-1, 4)
        corners = [np.concatenate([b[:, :2], b[:, :2] + b[:, 2:]], 1) for b in (people, crowd)]
        shown = boxes.xyxy[boxes.score >= sure]
        overlap, masked = box_iou(shown, corners[0]), box_iou(shown, corners[1], of_first=True)
        false += int(((overlap.max(1, initial=0) < 0.5) & (masked.max(1, initial=0) < 0.5)).sum())
        height = people[:, 3] * detector.size / max(image.shape[:2])
        for tall, hit in zip(height.tolist(), (overlap.max(0, initial=0) >= 0.5).tolist(), strict=True):
            name = next(label for limit, label in HEIGHTS.items() if tall < limit)
            found.setdefault(name, []).append(hit)
    scores = box_precision(dataset.records, results, dataset.skeleton)
    scores |= {f"recall, {name}": float(np.mean(found[name])) for name in HEIGHTS.values() if name in found}
    return Evaluation("boxes", scores | {"false boxes an image": false / len(dataset)}, results)


def _check_labels(dataset: KeypointSet, people: int) -> None:
    """Check that there are labelled people.

    Raises:
        DatasetError: there are none.
    """
    if not people:
        raise DatasetError(
            f"{dataset.name}: no labelled person in {len(dataset)} images, so nothing can be measured; check the split,"
            " and that the visibility of labelled joints is 1 or 2"
        )


def _image_of(dataset: KeypointSet, record: ImageRecord) -> np.ndarray:
    """Read the image of a record.

    Raises:
        DatasetError: its size differs from the record.
    """
    image = dataset.files.image(record.file_name)
    check_size(record.file_name, (record.width, record.height), (image.shape[1], image.shape[0]), dataset.name)
    return image


def common_joints(model: Skeleton, data: Skeleton) -> list[int]:
    """For every joint of the data, return the index of the model's joint of the same name, or -1.

    Raises:
        DatasetError: they have no joint in common.
    """
    order = [model.joints.index(name) if name in model.joints else -1 for name in data.joints]
    if max(order) < 0:
        raise DatasetError(f"the data set has none of the model's joints ({', '.join(model.joints)})")
    return order


def people_to_measure(record: ImageRecord, order: list[int], min_joints: int = 1) -> list[dict[str, Any]]:
    """Return the people annotated in an image with at least this many labelled joints that the model knows."""
    people = [person for person in record.people if person["num_keypoints"] and not person.get("iscrowd")]
    if min_joints <= 1:
        return people
    known = np.array(order) >= 0
    return [p for p in people if (np.array(p["keypoints"], float).reshape(-1, 3)[known, 2] > 0).sum() >= min_joints]


def where_to_look(
    record: ImageRecord, person: dict[str, Any], skeleton: Skeleton, model: Skeleton, crop: str
) -> Sequence[float] | None:
    """Return the box that a single-person network sees, or None for the whole image: see :func:`evaluate`."""
    if crop == "auto" and person.get("centre_box") is not None:
        return person["centre_box"]
    if crop == "auto" and len(people_to_measure(record, [])) == 1:
        return None
    at = np.array(person["keypoints"], float).reshape(-1, 3)
    return square(box_to_see(at[:, :2], (at[:, 2] > 0) & joints_to_see(model, skeleton), person["bbox"]))


def _basis(predictor: Estimator, dataset: KeypointSet, order: list[int], crop: str, min_joints: int) -> str:
    """Describe which people are measured, and which part of the image the network sees."""
    people = [(record, person) for record in dataset.records for person in people_to_measure(record, order, min_joints)]
    least = f"at least {min_joints} labelled joints" if min_joints > 1 else "labelled joints"
    counted = f"{len(people)} people with {least} in {len(dataset)} images"
    if isinstance(predictor, TopDown):
        return f"{counted}, in {'annotated boxes' if crop == 'boxes' else 'boxes that the person detector finds'}"
    if not predictor.single_person:
        return f"{counted}, found in full images"
    kinds = Counter[str]()
    for record, person in people:
        own = crop == "auto" and person.get("centre_box") is not None
        whole = crop == "auto" and len(people_to_measure(record, [])) == 1
        kinds[
            "in the data set's own box" if own else "in full images" if whole else "in a square around the joints"
        ] += 1
    return f"{counted}: " + ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def _look_at(predictor: Predictor, image: np.ndarray, box: Sequence[float] | None) -> tuple[np.ndarray, np.ndarray]:
    """Return (K, 2) joints in pixels of the image, NaN where not found, and (K,) scores."""
    poses = predictor.within(image, [0, 0, image.shape[1], image.shape[0]] if box is None else box)
    if not len(poses):
        return np.full((len(predictor.head.output), 2), np.nan), np.zeros(len(predictor.head.output))
    return poses.xy[0], poses.score[0]


def _nearest(poses: Poses, person: dict[str, Any], order: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the person with joints nearest to the annotated ones, on average."""
    known = [(i, o) for i, o in enumerate(order) if o >= 0 and person["keypoints"][3 * i + 2] > 0]
    k = len(poses.skeleton)
    if not len(poses) or not known:
        return np.full((k, 2), np.nan), np.zeros(k)
    truth = np.array(person["keypoints"]).reshape(-1, 3)[[i for i, _ in known], :2]
    distance = np.linalg.norm(poses.xy[:, [o for _, o in known]] - truth, axis=2)
    far = np.hypot(*person["bbox"][2:])  # distance of a joint that was not found
    best = int(np.where(np.isnan(distance), far, distance).mean(1).argmin())
    return poses.xy[best], poses.score[best]


def _result(
    record: ImageRecord, xy: np.ndarray, score: np.ndarray, person_score: float, order: list[int]
) -> dict[str, Any]:
    """Make COCO's result, in the data's order of joints; v is 0 where a joint was not found."""
    keypoints = []
    for i in order:
        seen = i >= 0 and not np.isnan(xy[i, 0])
        keypoints += (
            [round(float(xy[i, 0]), 2), round(float(xy[i, 1]), 2), round(float(score[i]), 4)] if seen else [0, 0, 0]
        )
    return {"image_id": record.id, "category_id": 1, "keypoints": keypoints, "score": round(float(person_score), 4)}


def _figures(metric: str, curve: Pck, skeleton: Skeleton) -> tuple[dict[str, float], dict[str, float]]:
    """Return totals and figures by joint, at the largest threshold."""
    top = float(curve.thresholds[-1])
    index = {name: i for i, name in enumerate(skeleton.joints) if curve.count[i]}
    counted = _counted(metric, index)
    name = f"{metric.upper().replace('H', 'h')}@{top:g}"
    scores = {name: curve.at(top, counted), "AUC": curve.area(counted)}
    for group, names in GROUPS.items():
        members = [index[n] for n in names if n in index]
        if members:
            scores[group] = _mean(curve, top, members)
    upper = [i for n, i in index.items() if not any(part in n for part in ("hip", "knee", "ankle", *NOT_COUNTED))]
    if len(upper) < len(counted):
        scores["upper body"] = curve.at(top, upper)
    return scores, {n: curve.at(top, [i]) for n, i in index.items()}


def _mean(curve: Pck, threshold: float, joints: list[int]) -> float:
    """Mean of the joints' figures, as in the papers' tables; totals are weighted by the number of labels."""
    return float(np.mean([curve.at(threshold, [i]) for i in joints]))


def _counted(metric: str, index: dict[str, int]) -> list[int]:
    """Return the joints that count in the total."""
    return [i for name, i in index.items() if metric == "pck" or name not in NOT_COUNTED]


def save_curve(evaluation: Evaluation, skeleton: Skeleton, path: str | Path) -> None:
    """Plot the share of correct joints over the threshold, one line for all joints and one per kind of joint.

    Raises:
        DatasetError: there is no curve for oks.
        MissingExtraError: matplotlib is not installed.
    """
    curve = evaluation.curve
    if curve is None:
        raise DatasetError("oks has no curve over thresholds; use --metric pck or pckh")
    from ..analysis.plot import lines

    index = {name: i for i, name in enumerate(skeleton.joints) if curve.count[i]}
    shown = {"all": [curve.at(t, _counted(evaluation.metric, index)) for t in curve.thresholds]}
    for group, names in GROUPS.items():
        members = [index[n] for n in names if n in index]
        if members:
            shown[group] = [_mean(curve, t, members) for t in curve.thresholds]
    lines(path, curve.thresholds, shown, "threshold", f"{evaluation.metric.upper()}: share of correct joints")
