"""Public data sets in their authors' formats, read as :class:`~lithepose.data.coco.KeypointSet`."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, MissingExtraError, MissingFileError
from ..skeleton import FLIC_11, LIP_16, LSP_14, MPII_16, Skeleton
from .coco import ImageFiles, ImageRecord, KeypointSet, is_json

EXPECTED = """COCO   annotations/person_keypoints_<split>2017.json and <split>2017/ (cocodataset.org), or <split>.json
LIP    TrainVal_pose_annotations/lip_<split>_set.csv and <split>_images/ (sysu-hcp.net/lip)
MPII   mpii_human_pose_v1_u12_1.mat or annot/{train,valid}.json, and images/ (human-pose.mpi-inf.mpg.de)
FLIC   examples.mat and images/ (bensapp.github.io/flic-dataset.html)
LSP    joints.mat and images/; LSP extended likewise (sam.johnson.io/research/lsp.html)"""

FLIC_COLUMNS = (0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16)  # the eleven labelled ones of the 29, in FLIC_11's order
FLIC_CROP = 1.5  # square around the joints, relative to their box (debnath2018split crops loosely)
LSP_TRAIN = 1000  # of LSP's 2000 images; the others are its test set


def open_dataset(data: str | Path, split: str = "val", images: tuple[str | Path, ...] = ()) -> KeypointSet:
    """Open a data set in any format of :data:`EXPECTED`. The format is detected by the files.

    Args:
        data: folder or uncompressed tar archive, or a COCO-keypoint JSON file.
        split: train, val or test, if the data set has it.
        images: where the images are, if they are elsewhere.

    Returns:
        the data set. Annotations have COCO's ``keypoints`` and ``bbox`` and, if known, ``head_size`` (pixels, the
        reference length of PCKh) and ``centre_box`` (the box to crop around for single-person networks).

    Raises:
        MissingFileError: no known format is found; the message names the expected files.
        DatasetError: a file's content does not match its format.
        MissingExtraError: a .mat file needs scipy.
    """
    path = Path(data)
    if is_json(path):
        return KeypointSet.open(path, split, images)
    files = ImageFiles(path, *images, prefer=split)
    for name in (f"annot/{'valid' if split == 'val' else split}.json", f"lip_{split}_set.csv", *MATS):
        if name not in files:
            continue
        try:
            records, skeleton = _reader(name)(files, split)
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, SplitError):
                raise
            raise DatasetError(
                f"{path}/{name}: not in the data set's format ({type(error).__name__}: {error})"
            ) from error
        if not records:
            raise DatasetError(f"{path}/{name}: no annotated image in split {split!r}")
        return KeypointSet(f"{path}/{name}", tuple(records), skeleton, files)
    try:
        return KeypointSet.open(path, split, images)
    except FileNotFoundError as error:
        raise MissingFileError(f"{error}\nA data set's folder or tar must contain one of:\n{EXPECTED}") from error


class SplitError(ValueError):
    """A data set does not have the split."""


def _reader(name: str) -> Callable[[ImageFiles, str], tuple[list[ImageRecord], Skeleton]]:
    if name.endswith(".csv"):
        return _read_lip
    return _read_mpii_json if name.endswith(".json") else MATS[name]


def _person(joints: np.ndarray, **more: Any) -> dict[str, Any]:
    """Make COCO's annotation of (K, 3) joints x, y, visibility; the box surrounds the labelled joints."""
    labelled: np.ndarray = joints[:, 2] > 0
    joints = np.where(labelled[:, None], joints, 0.0)
    low = joints[labelled, :2].min(0) if labelled.any() else np.zeros(2)
    high = joints[labelled, :2].max(0) if labelled.any() else np.zeros(2)
    box = [*low.tolist(), *(high - low).tolist()]
    area = 0.53 * float(np.prod(high - low))  # share of a person's outline in COCO, applied to the box of the joints
    return {
        "keypoints": joints.ravel().tolist(),
        "num_keypoints": int(labelled.sum()),
        "bbox": box,
        "area": area,
    } | {k: v for k, v in more.items() if v is not None}


def _one_an_image(people: Iterable[tuple[str, dict[str, Any]]]) -> list[ImageRecord]:
    """Make records with one person per image; the annotations do not give the images' sizes."""
    return [ImageRecord(i, name, 0, 0, (person,)) for i, (name, person) in enumerate(people, 1)]


def _read_lip(files: ImageFiles, split: str) -> tuple[list[ImageRecord], Skeleton]:
    """Read one row per image: its name, then x, y, v of 16 joints; ``nan`` is unlabelled, v = 1 is hidden."""
    rows = csv.reader(io.StringIO(files.read(f"lip_{split}_set.csv").decode()))
    people = []
    for row in rows:
        raw = np.array([float(v) for v in row[1:49]]).reshape(16, 3)
        unlabelled = np.isnan(raw.sum(1))
        raw[:, 2] = np.where(unlabelled, 0, np.where(raw[:, 2] == 1, 1, 2))
        # LIP uses the length from neck to head top; without both joints the image does not count.
        head = None if unlabelled[[8, 9]].any() else float(np.hypot(*(raw[9, :2] - raw[8, :2])))
        people.append((row[0], _person(np.nan_to_num(raw), head_size=head)))
    return _one_an_image(people), LIP_16


def _loadmat(files: ImageFiles, name: str) -> dict[str, Any]:
    try:
        from scipy.io import loadmat  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError(f"{name} needs scipy: pip install 'lithepose[evaluate]'") from error
    return loadmat(io.BytesIO(files.read(name)), squeeze_me=True, struct_as_record=False)


def _list(value: Any) -> list[Any]:
    """Convert the result of ``squeeze_me`` for a struct array (an array, one struct or nothing) to a list."""
    return [] if getattr(value, "size", 1) == 0 else list(np.atleast_1d(value))


def _located(files: ImageFiles, name: str) -> str:
    """Prefer images/, because other folders may have files of the same name, such as LSP's visualized/."""
    return f"images/{name}" if f"images/{name}" in files else name


def _number(value: Any) -> float | None:
    """Return a field of a struct, or None if it is missing or empty."""
    array = np.atleast_1d(value)
    return float(array[0]) if array.size == 1 and array[0] is not None else None


def _centre_box(x: float | None, y: float | None, scale: float | None) -> list[float] | None:
    """Return MPII's square around a person, 200 pixels per unit of scale; x and y count from 1.

    As in MPII's public loaders, it is moved down by 15 pixels per unit of scale, because ``objpos`` lies above the
    body's centre, and enlarged by a quarter.
    """
    if x is None or y is None or scale is None:
        return None
    side = 1.25 * 200 * scale
    return [x - 1 - side / 2, y - 1 + 15 * scale - side / 2, side, side]


def _read_mpii(files: ImageFiles, split: str) -> tuple[list[ImageRecord], Skeleton]:
    """Read RELEASE.annolist: rectangles of heads with points of joints, x and y from 1."""
    if split != "train":
        raise SplitError(f"{MPII_MAT}: only its training images are annotated; use split train, or add annot/*.json")
    release = _loadmat(files, MPII_MAT)["RELEASE"]
    records = []
    for i, (entry, train) in enumerate(zip(release.annolist, release.img_train, strict=True), 1):
        people = []
        for rect in _list(entry.annorect) if train else []:
            joints = np.zeros((16, 3))
            for point in _list(getattr(getattr(rect, "annopoints", None), "point", np.empty(0))):
                hidden = str(getattr(point, "is_visible", 1)) == "0"
                joints[int(point.id)] = point.x - 1, point.y - 1, 1 if hidden else 2
            if not joints[:, 2].any():
                continue
            corners = [_number(getattr(rect, name, None)) for name in ("x1", "y1", "x2", "y2")]
            known = np.array([c for c in corners if c is not None])
            head = 0.6 * float(np.hypot(*(known[2:] - known[:2]))) if len(known) == 4 else None
            place = getattr(rect, "objpos", None)
            x, y = (_number(getattr(place, name, None)) for name in ("x", "y"))
            box = _centre_box(x, y, _number(getattr(rect, "scale", None)))
            people.append(_person(joints, head_size=head, centre_box=box))
        if people:
            records.append(ImageRecord(i, _located(files, str(entry.image.name)), 0, 0, tuple(people)))
    return records, MPII_16


def _read_mpii_json(files: ImageFiles, split: str) -> tuple[list[ImageRecord], Skeleton]:
    """Read the common JSON: one person per row with joints from 1; head sizes come from gt_valid.mat beside it."""
    name = "valid" if split == "val" else split
    rows = json.loads(files.read(f"annot/{name}.json"))
    heads: list[float | None] = [None] * len(rows)
    if f"gt_{name}.mat" in files:
        boxes = _loadmat(files, f"gt_{name}.mat")["headboxes_src"].reshape(2, 2, -1)  # (2 corners, x y, N)
        heads = list(0.6 * np.hypot(*(boxes[1] - boxes[0])))
    records: dict[str, list[dict[str, Any]]] = {}
    for row, head in zip(rows, heads, strict=True):
        joints = np.concatenate([np.array(row["joints"]) - 1, 2 * np.array(row["joints_vis"])[:, None]], 1)
        box = _centre_box(row["center"][0], row["center"][1], row["scale"])
        size = None if head is None else float(head)
        records.setdefault(row["image"], []).append(_person(joints, head_size=size, centre_box=box))
    return [ImageRecord(i, _located(files, n), 0, 0, tuple(p)) for i, (n, p) in enumerate(records.items(), 1)], MPII_16


def _read_flic(files: ImageFiles, split: str) -> tuple[list[ImageRecord], Skeleton]:
    """Read ``examples``: coords 2x29 from 1, of which eleven are labelled, and flags of the split."""
    flag = "istrain" if split == "train" else "istest"
    people = []
    for example in _list(_loadmat(files, "examples.mat")["examples"]):
        if not getattr(example, flag):
            continue
        xy = example.coords[:, FLIC_COLUMNS].T - 1
        visible = np.where(np.isnan(xy).any(1, keepdims=True), 0.0, 2.0)
        joints = np.concatenate([np.nan_to_num(xy), visible], 1)
        low, high = np.nanmin(xy, 0), np.nanmax(xy, 0)
        side = FLIC_CROP * float((high - low).max())  # images are whole film frames, often with other people
        box = [*((low + high - side) / 2).tolist(), side, side]
        people.append((_located(files, str(example.filepath)), _person(joints, centre_box=box)))
    return _one_an_image(people), FLIC_11


def _read_lsp(files: ImageFiles, split: str) -> tuple[list[ImageRecord], Skeleton]:
    """Read ``joints`` from 1: LSP (3, 14, 2000), all labelled, with a flag for hidden; extended (14, 3, 10000).

    The third value of the extended set is 1 for labelled joints. All of it is for training.
    """
    joints = np.asarray(_loadmat(files, "joints.mat")["joints"], float)
    extended = joints.shape[:2] == (14, 3)
    if not extended and joints.shape[:2] != (3, 14):
        raise DatasetError(f"joints have shape {joints.shape}; expected (3, 14, N) or (14, 3, N)")
    people = joints.transpose(2, 0, 1) if extended else joints.transpose(2, 1, 0)
    visible = np.where(people[..., 2] > 0, 2, 0) if extended else np.where(people[..., 2] > 0, 1, 2)
    people = np.concatenate([people[..., :2] - 1, visible[..., None]], 2)
    if extended and split != "train":
        raise SplitError("joints.mat: all images of LSP extended are for training; use split train")
    chosen = range(len(people)) if extended else range(LSP_TRAIN) if split == "train" else range(LSP_TRAIN, len(people))
    digits = 5 if extended else 4
    named = [(_located(files, f"im{i + 1:0{digits}d}.jpg"), _person(people[i])) for i in chosen]
    return [ImageRecord(i, name, 0, 0, (person,)) for i, (name, person) in zip(chosen, named, strict=True)], LSP_14


MPII_MAT = "mpii_human_pose_v1_u12_1.mat"
MATS: dict[str, Callable[[ImageFiles, str], tuple[list[ImageRecord], Skeleton]]] = {
    MPII_MAT: _read_mpii,
    "examples.mat": _read_flic,
    "joints.mat": _read_lsp,
}
