"""COCO-keypoint annotations and the images that they speak of, from a folder or straight from a tar archive."""

from __future__ import annotations

import gzip
import json
import os
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..image import UnreadableImage, decode_image
from ..skeleton import COCO_17, Skeleton

Place = tuple[Path, int, int]  # file, offset, size (-1: to the end)


class ImageFiles:
    """Files by name, from folders and uncompressed tar archives, read in place.

    Args:
        sources: folders or ``.tar`` files. A file is found by its whole path below the source, or by the end of it as
            long as no other file ends alike.
        prefer: folder that decides between files of the same name, as ``val`` between ``train/1.jpg`` and
            ``val/1.jpg``.
    """

    def __init__(self, *sources: str | Path, prefer: str = "") -> None:
        self._whole: dict[str, Place] = {}
        self._ends: dict[str, Place | None] = {}  # None: more than one
        self._prefer = prefer
        for source in map(Path, sources):
            if source.is_dir():
                found = ((p.relative_to(source).as_posix(), (p, 0, -1)) for p in source.rglob("*") if p.is_file())
            elif source.is_file() and tarfile.is_tarfile(source):
                found = self._members(source)
            else:
                raise FileNotFoundError(f"{source}: no such folder or tar archive; give the data set's folder or .tar")
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
            raise ValueError(f"{source}: compressed archive; unpack it, or store it as plain .tar") from error
        with archive:
            try:
                for member in archive:
                    if member.isfile():
                        yield member.name, (source, member.offset_data, member.size)
            except tarfile.ReadError as error:
                raise ValueError(f"{source}: the archive is cut off ({error}); copy it again") from error

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
            raise ValueError(f"{name}: several files of the data set are called so; name them by their folders")
        return self._ends.get(name)

    def __contains__(self, name: str) -> bool:
        return self._place(name) is not None

    def read(self, name: str) -> bytes:
        """Bytes of the named file.

        Raises:
            FileNotFoundError: no source holds it.
            ValueError: several do.
        """
        place = self._place(name)
        if place is None:
            raise FileNotFoundError(f"{name}: not among the {len(self._whole)} files of the data set")
        path, offset, size = place
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(size)

    def size(self, name: str) -> int:
        """Bytes of the named file; -1 if no source holds it."""
        place = self._place(name)
        return -1 if place is None else place[2] if place[2] >= 0 else place[0].stat().st_size

    def image(self, name: str) -> np.ndarray:
        """(H, W, 3) uint8 RGB image."""
        try:
            return decode_image(self.read(name))
        except UnreadableImage as error:
            raise UnreadableImage(f"{name}: {error}") from error


def _ends(name: str) -> list[str]:
    """``a/images/b.jpg`` is found as itself, ``images/b.jpg`` and ``b.jpg``."""
    parts = name.split("/")
    return ["/".join(parts[i:]) for i in range(len(parts))]


@dataclass(frozen=True)
class ImageRecord:
    """One annotated image. ``people`` are COCO annotation dicts, ``num_keypoints`` counted where it is missing."""

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
        """Open ``data``: a folder or tar archive that holds ``<split>.json``, or a json (or json.gz) file itself.

        Args:
            data: where the annotations are.
            split: name of the json in a folder or archive.
            images: where the images are, when not beside the json.

        Raises:
            FileNotFoundError: the path, or the split in it, does not exist.
            ValueError: the json is not COCO-keypoint format.
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
                raise FileNotFoundError(
                    f"{path}: holds no {names[0]}; name another split, or give the json file itself"
                )
            raw, where = files.read(name), f"{path}{os.sep}{name}"
        try:
            content = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
            return cls(where, _records(content), _skeleton(content), files)
        except (ValueError, LookupError, TypeError, AttributeError, OSError, EOFError, zlib.error) as error:
            # Not its repr, which of a file in another code would be the whole file.
            raise ValueError(f"{where}: not a COCO-keypoint json ({type(error).__name__}: {error})") from error


def is_json(path: Path) -> bool:
    """Whether it is annotations themselves, not a folder or archive that holds them."""
    return path.name.endswith((".json", ".json.gz")) and path.is_file()


def _records(content: dict[str, Any]) -> tuple[ImageRecord, ...]:
    people: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    category, joints = content["categories"][0].get("id", 1), len(content["categories"][0]["keypoints"])
    if any(not isinstance(number, int) for number in people):
        raise ValueError("an image's id is no whole number")
    for annotation in content["annotations"]:
        if annotation.get("category_id", category) == category:
            given = annotation["keypoints"]
            if len(given) != 3 * joints or not all(isinstance(number, (int, float)) for number in given):
                raise ValueError(
                    f"annotation {annotation.get('id')}: keypoints must be {3 * joints} numbers, three for each of the"
                    f" category's {joints}; there are {len(given)}"
                )
            visible = sum(v > 0 for v in annotation["keypoints"][2::3])
            area = 0.53 * annotation["bbox"][2] * annotation["bbox"][3]  # of people's outlines in COCO
            people[annotation["image_id"]].append({"num_keypoints": visible, "area": area} | annotation)
    return tuple(
        ImageRecord(i["id"], i["file_name"], i["width"], i["height"], tuple(people[i["id"]])) for i in content["images"]
    )


def _skeleton(content: dict[str, Any]) -> Skeleton:
    """Skeleton of the first category: left_x and right_x are mirror pairs, its ``sigmas`` those of OKS."""
    category = content["categories"][0]
    joints = tuple(category["keypoints"])
    index = {joint: i for i, joint in enumerate(joints)}
    flips = tuple(
        (i, index[joint.replace("left", "right", 1)])
        for joint, i in index.items()
        if joint.startswith("left") and joint.replace("left", "right", 1) in index
    )
    edges = tuple((a - 1, b - 1) for a, b in category.get("skeleton", ()))
    sigmas = COCO_17.sigmas if joints == COCO_17.joints else tuple(map(float, category.get("sigmas", ())))
    return Skeleton(category["name"], joints, edges, flips, sigmas)
