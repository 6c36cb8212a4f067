"""COCO-keypoint annotations and their images, from a folder or directly from a tar archive."""

from __future__ import annotations

import gzip
import json
import logging
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, ImageError, MissingFileError
from ..media.image import decode_image
from ..skeleton import COCO_17, Skeleton, mirror_pairs

LOG = logging.getLogger(__name__)
Place = tuple[Path, int, int]  # file, offset, size (-1: to the end)


class ImageFiles:
    """Files by name, from folders and uncompressed tar archives, which are read in place.

    Args:
        sources: folders or ``.tar`` files. A file is found by its whole path below the source, or by the end of its
            path if no other file has the same end.
        prefer: folder to choose from if several files have the same name, such as ``val`` for ``train/1.jpg`` and
            ``val/1.jpg``.
    """

    def __init__(self, *sources: str | Path, prefer: str = "") -> None:
        self._whole: dict[str, Place] = {}
        self._ends: dict[str, Place | None] = {}  # None: several files
        self._prefer = prefer
        for source in map(Path, sources):
            if source.is_dir():
                found = ((p.relative_to(source).as_posix(), (p, 0, -1)) for p in source.rglob("*") if p.is_file())
            elif source.is_file() and tarfile.is_tarfile(source):
                found = self._members(source)
            else:
                raise MissingFileError(f"{source}: no such folder or tar archive; pass the data set's folder or .tar")
            for name, place in found:
                name = name.removeprefix("./")
                self._whole.setdefault(name, place)
                for end in _ends(name):
                    self._ends[end] = None if end in self._ends else place

    @staticmethod
    def _members(source: Path) -> Iterator[tuple[str, Place]]:
        try:
            archive = tarfile.open(source, "r:")  # noqa: SIM115
        except tarfile.ReadError as error:
            raise DatasetError(
                f"{source}: compressed archives are not supported; unpack it, or use an uncompressed .tar"
            ) from error
        with archive:
            try:
                for member in archive:
                    if member.isfile():
                        yield member.name, (source, member.offset_data, member.size)
            except tarfile.ReadError as error:
                raise DatasetError(f"{source}: the archive is truncated ({error}); copy it again") from error

    def _place(self, name: str) -> Place | None:
        for candidate in (
            name,
            f"{self._prefer}/{name}",
            f"images/{self._prefer}/{name}",
            f"{self._prefer}/images/{name}",
            f"{self._prefer}2017/{name}",  # COCO's
            f"{self._prefer}_images/{name}",  # LIP's
        ):
            if candidate in self._whole:
                return self._whole[candidate]
            if candidate != name and self._ends.get(candidate):
                return self._ends[candidate]
        if name in self._ends and self._ends[name] is None:
            raise DatasetError(f"{name}: several files of the data set have this name; add their folders to the names")
        return self._ends.get(name)

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def read(self, name: str) -> bytes:
        """Read the bytes of the named file.

        Raises:
            MissingFileError: no source has it.
            DatasetError: several sources have it.
        """
        place = self._place(name)
        if place is None:
            raise MissingFileError(f"{name}: not found among the {len(self._whole)} files of the data set")
        path, offset, size = place
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def size(self, name: str) -> int:
        """Return the size of the named file in bytes; -1 if no source has it."""
        place = self._place(name)
        return -1 if place is None else place[2] if place[2] >= 0 else place[0].stat().st_size

    def image(self, name: str) -> np.ndarray:
        """Read an image as (H, W, 3) uint8 RGB."""
        try:
            return decode_image(self.read(name))
        except ImageError as error:
            raise ImageError(f"{name}: {error}") from error


def _ends(name: str) -> list[str]:
    """Return the names that find ``a/images/b.jpg``: itself, ``images/b.jpg`` and ``b.jpg``."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image. ``people`` are COCO annotation dicts; a missing ``num_keypoints`` is filled in."""

    id: int
    file_name: str
    width: int
    height: int
    people: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class KeypointSet:
    """A COCO-keypoint data set: its images, their annotations and the skeleton of its category."""

    name: str
    records: tuple[ImageRecord, ...]
    skeleton: Skeleton
    files: ImageFiles

    def __len__(self) -> int:
        return len(self.records)

    @classmethod
    def open(cls, data: str | Path, split: str = "val", images: tuple[str | Path, ...] = ()) -> KeypointSet:
        """Open ``data``: a folder or tar archive with ``<split>.json``, or a JSON (or json.gz) file itself.

        Args:
            data: where the annotations are.
            split: name of the JSON file in a folder or archive.
            images: where the images are, if not beside the JSON file.

        Raises:
            MissingFileError: the path, or the split in it, does not exist.
            DatasetError: the JSON is not in COCO-keypoint format.
        """
        path = Path(data)
        if is_json(path):
            raw, where = path.read_bytes(), str(path)
            files = ImageFiles(*(images or (path.parent,)), prefer=split)
        else:
            files = ImageFiles(path, *images, prefer=split)
            names = f"{split}.json", f"annotations/person_keypoints_{split}2017.json"
            name = next((name for name in names if name in files), "")
            if not name:
                raise MissingFileError(
                    f"{path}: contains no {names[0]}; choose another split, or pass the JSON file itself"
                )
            raw, where = files.read(name), f"{path}{os.sep}{name}"
        try:
            content = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
            records = tuple(replace(r, file_name=_known_name(files, r.file_name)) for r in _records(content, where))
            return cls(where, records, _skeleton(content), files)
        except (ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, zlib.error) as error:
            # Not the error's repr, which would contain the whole file if its encoding is wrong.
            raise DatasetError(f"{where}: not a COCO-keypoint json ({type(error).__name__}: {error})") from error


def _known_name(files: ImageFiles, name: str) -> str:
    """Return an image's name, or the end of it that exists; the name may be a path on another machine."""
    if name in files or not (name.startswith("/") or name[1:2] == ":"):
        return name
    return next((end for end in _ends(name) if end in files), name)


def is_json(path: Path) -> bool:
    """Whether the path is an annotation file, not a folder or archive that contains one."""
    return path.name.endswith((".json", ".json.gz")) and path.is_file()


def _records(content: dict[str, Any], where: str) -> tuple[ImageRecord, ...]:
    """Read images with their people. Common omissions of annotation tools are filled in and reported once."""
    repairs: Counter[str] = Counter()
    joints = len(_categories(content)[0]["keypoints"])
    known = {category.get("id", 1) for category in _categories(content)}
    people: dict[Any, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        if annotation.get("category_id", min(known)) not in known:
            repairs["annotations of other categories ignored"] += 1
        elif annotation["image_id"] not in people:
            repairs["annotations of unknown images ignored"] += 1
        else:
            people[annotation["image_id"]].append(_person(annotation, joints, repairs))
    records = list[ImageRecord]()
    number = max([i["id"] for i in content["images"] if isinstance(i["id"], int)], default=0)
    for image in content["images"]:
        identity, name = image["id"], str(image["file_name"])
        if not isinstance(identity, int) or isinstance(identity, bool):
            repairs["non-integer image ids replaced"] += 1
            identity = number = number + 1
        plain = name.replace("\\", "/").removeprefix("./")
        repairs["backslashes in file names replaced"] += "\\" in name
        size = int(image.get("width") or 0), int(image.get("height") or 0)
        records.append(ImageRecord(identity, plain, *size, tuple(people[image["id"]])))
    _refuse_shares(people)
    for repair, count in repairs.items():
        if count:
            LOG.warning("%s: %s: %d", where, repair, count)
    return tuple(records)


def _refuse_shares(people: dict[Any, list[dict[str, Any]]]) -> None:
    """Reject coordinates that are shares of the image.

    Raises:
        DatasetError: all labelled joints lie in the first pixel of their images.
    """
    values = [
        value
        for found in people.values()
        for person in found
        for x, y, visible in zip(*(person["keypoints"][i::3] for i in range(3)), strict=True)
        if visible > 0
        for value in (x, y)
    ]
    if len(values) >= 8 and 0 <= min(values) <= max(values) <= 1 and len(set(values)) > 2:
        raise DatasetError(
            "all joints are between 0 and 1, relative to the image size; multiply them by the width and height"
        )


def check_size(name: str, stated: tuple[int, int], size: tuple[int, int], where: str) -> None:
    """Compare the (width, height) of an image in the annotations with that of the upright image.

    Raises:
        DatasetError: they differ. Sizes of 0 are unknown and not compared.
    """
    if all(stated) and tuple(stated) != size:
        turned = ", which is its size before EXIF rotation" if stated == size[::-1] else ""
        raise DatasetError(
            f"{name}: has {size[0]}x{size[1]} pixels, but {stated[0]}x{stated[1]} in {where}{turned}; correct the"
            " size there, and label the image as it is displayed, or its joints will be misplaced"
        )


def _person(annotation: dict[str, Any], joints: int, repairs: Counter[str]) -> dict[str, Any]:
    """Complete an annotation with keypoints, their number, a box and an area.

    Raises:
        DatasetError: the number of keypoints is wrong, or they are not finite.
    """
    given = annotation.get("keypoints") or []
    if not given:
        repairs["people without keypoints"] += 1
        given = [0] * (3 * joints)
    if len(given) != 3 * joints or not all(map(_is_finite, given)):
        raise DatasetError(
            f"annotation {annotation.get('id')}: keypoints must be {3 * joints} finite numbers, three for each of the"
            f" category's {joints} joints; found {len(given)}"
        )
    visible = sum(v > 0 for v in given[2::3])
    repairs["wrong num_keypoints corrected"] += annotation.get("num_keypoints", visible) != visible
    box = annotation.get("bbox") or []
    if len(box) != 4 or (visible and not (box[2] > 0 and box[3] > 0)):
        repairs["missing boxes computed from the keypoints"] += 1
        xs, ys = ([given[3 * k + axis] for k in range(joints) if given[3 * k + 2] > 0] or [0] for axis in (0, 1))
        box = [min(xs), min(ys), max(max(xs) - min(xs), 1), max(max(ys) - min(ys), 1)]
    area = annotation.get("area") or 0
    if not area > 0:
        area = 0.53 * box[2] * box[3]  # share of people's outlines in their boxes, in COCO
    return annotation | {"keypoints": given, "num_keypoints": visible, "bbox": box, "area": area}


def _is_finite(number: object) -> bool:
    return isinstance(number, (int, float)) and abs(number) <= 1e9  # false for NaN


def _categories(content: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the categories with keypoints. Several are allowed only if their joints are the same.

    Raises:
        DatasetError: there is none, or their joints differ.
    """
    found = [category for category in content["categories"] if category.get("keypoints")]
    if not found:
        raise DatasetError("no category has keypoints; list the joint names under categories")
    for other in found[1:]:
        if other["keypoints"] != found[0]["keypoints"]:
            names = ", ".join(str(category.get("name")) for category in found)
            raise DatasetError(f"categories {names} have different joints; keep only one of them in the file")
    return found


def _skeleton(content: dict[str, Any]) -> Skeleton:
    """Return the skeleton of the first category.

    Its ``flip_pairs`` are pairs of joint names. Without them, joints are paired by
    :func:`lithepose.skeleton.mirror_pairs`. Its ``sigmas`` are those of OKS.

    Raises:
        DatasetError: a flip pair names an unknown joint.
    """
    category = _categories(content)[0]
    joints = tuple(category["keypoints"])
    given = category.get("flip_pairs")
    if given is not None and not all(len(pair) == 2 and set(pair) <= set(joints) for pair in given):
        raise DatasetError(f"flip_pairs {given}: must be pairs of the category's joints by name, {', '.join(joints)}")
    named = ((joints.index(a), joints.index(b)) for a, b in given or ())
    edges = tuple((a - 1, b - 1) for a, b in category.get("skeleton", ()))
    sigmas = COCO_17.sigmas if joints == COCO_17.joints else tuple(map(float, category.get("sigmas", ())))
    flips = mirror_pairs(joints) if given is None else tuple(named)
    return Skeleton(str(category.get("name", "person")), joints, edges, flips, sigmas)
