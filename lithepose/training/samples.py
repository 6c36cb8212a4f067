"""Annotated images -> training samples (image, maps, masks)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..data.coco import KeypointSet
from ..data.formats import open_dataset
from ..heads.encode import fields, head_joints, heatmaps
from ..skeleton import FACE, Head
from . import augment
from .augment import AugmentConfig


@dataclass(frozen=True)
class Source:
    """One data set of a recipe.

    Attributes:
        data: folder, archive or json, relative to the data folder.
        split: name of the json in a folder or archive.
        images: where the images are, if not there.
        weight: share of the samples, before normalisation.
        squashed: images lost their aspect; stretch them back at random.
        mosaic: these images may be joined into mosaics.
        without: another data set; its images (by id) are left out, because they are the same ones.
        first: only so many images, from the start; 0 takes all.
        people: only images with a person to make a crop around.
        joints: fewest labelled joints, of those that the network knows, of such a person.
        large: least share of the image's longer side that such a person's box has.
        ignore: for a person detector, a json of boxes of people without annotations.
    """

    data: str
    split: str = "train"
    images: tuple[str, ...] = ()
    weight: float = 1.0
    squashed: bool = False
    mosaic: bool = True
    without: str = ""
    first: int = 0
    people: bool = False
    joints: int = 1
    large: float = 0.0
    ignore: str = ""


@dataclass
class People:
    """Annotations of one image, ready for targets.

    Attributes:
        joints: (P, K, 3) in the head's order.
        boxes: (P, 4) x, y, w, h.
        unsure: (P, K) joints that may be there without a label: their channels are masked inside the person's box.
        ignore: (R, 4) boxes in which people are not, or not surely, annotated.
        bare: (B, 4) those of them that are one person without any keypoint.
    """

    joints: np.ndarray
    boxes: np.ndarray
    unsure: np.ndarray
    ignore: np.ndarray
    bare: np.ndarray


def read_people(
    annotations: tuple[dict[str, Any], ...], names: tuple[str, ...], head: Head, kind: str = "maps"
) -> People:
    """COCO annotation dicts -> People. Detectors learn people's own boxes, not those to crop around.

    Crowds and people without any keypoint become ignored regions. ``source: teacher`` marks labels made by a network
    (what it left out is unsure), ``face: unknown`` a person without labels of the face.
    """
    persons = [a for a in annotations if a["num_keypoints"] > 0 and not a.get("iscrowd")]
    ignore = [a["bbox"] for a in annotations if a["num_keypoints"] == 0 or a.get("iscrowd")]
    raw = np.array([a["keypoints"] for a in persons], np.float32).reshape(len(persons), len(names), 3)
    joints = head_joints(raw, names, head)
    unsure = np.zeros(joints.shape[:2], bool)
    face = [k for k, name in enumerate(head.skeleton.joints) if name in FACE]
    neck = {"neck"} if {"left_shoulder", "right_shoulder"} <= set(names) else set[str]()  # between them
    missing = [k for k, name in enumerate(head.skeleton.joints) if name not in {*names} | neck]
    unsure[:, missing] = True
    for p, a in enumerate(persons):
        if a.get("source") == "teacher":
            unsure[p] |= joints[p, :, 2] == 0
        if a.get("face") == "unknown":
            unsure[p, face] = True
    own = [a["bbox"] if kind == "boxes" else a.get("centre_box", a["bbox"]) for a in persons]
    boxes = np.array(own, np.float32).reshape(-1, 4)
    bare = [a["bbox"] for a in annotations if a["num_keypoints"] == 0 and not a.get("iscrowd")]
    return People(joints, boxes, unsure, *(np.array(b, np.float32).reshape(-1, 4) for b in (ignore, bare)))


@dataclass
class _Loaded:
    source: Source
    files: Any
    names: list[str]
    people: list[People]
    main: list[np.ndarray]  # who a crop may be made around, by image
    sizes: list[tuple[int, int]]  # width and height; 0 where the data set does not say


class PoseSamples(Dataset[dict[str, Any]]):
    """Sample number i, the same whenever it is asked for: all randomness is seeded by (seed, i).

    Items are dicts with ``image`` (3, S, S) uint8 and ``number``. With s = S / stride they have, by kind of network,

    - maps: ``heatmaps`` (K, s, s), ``fields`` (2 L, s, s), ``heatmap_mask`` (K, s, s) bool, ``field_mask`` (L, s, s)
      bool; K includes a background if the head has one;
    - xy: ``xy`` (K, 2) as shares of the image, ``visible`` (K,) bool;
    - boxes: ``boxes`` (P, 4) x0, y0, x1, y1 and ``keypoints`` (P, K, 3), in pixels.

    Networks of one person get a crop around one of each image's people, and targets of that person alone.
    """

    def __init__(
        self,
        sources: list[Source],
        root: Path,
        head: Head,
        size: int,
        config: AugmentConfig,
        seed: int = 0,
        kind: str = "maps",
    ) -> None:
        self.head, self.size, self.config, self.seed, self.kind = head, size, config, seed, kind
        self.single = kind != "boxes" and not head.limbs
        self.sets: list[_Loaded] = []
        for source in sources:
            opened = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
            need = source.people or self.single or kind == "boxes"
            self.sets.append(_load(opened, source, root, head, need, kind))
        weights = np.array([s.source.weight for s in self.sets])
        if weights.min() < 0 or not weights.sum():
            raise ValueError(f"weight = {', '.join(map(str, weights))}: 0 or more, and more in one of the sources")
        self.shares = weights / weights.sum()
        self.mosaic_shares = weights * [s.source.mosaic for s in self.sets]
        self.mosaic_shares /= max(self.mosaic_shares.sum(), 1e-9)
        self._seen: list[str] = []

    def __len__(self) -> int:
        return sum(len(s.names) for s in self.sets)

    def image_names(self, number: int) -> list[str]:
        """Names of the images that a sample is made of."""
        self._seen = []
        self[number]
        return self._seen

    def __getitem__(self, number: int) -> dict[str, Any]:
        image, people = self._view(np.random.default_rng((self.seed, number)))
        item: dict[str, Any] = {
            "number": number,
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        }
        if self.kind == "boxes":
            return item | _boxes(people, self.size)
        if self.kind == "xy":
            joints = torch.from_numpy(people.joints[0])
            return item | {"xy": (joints[:, :2] + 0.5) / self.size, "visible": joints[:, 2] > 0}
        names = "heatmaps", "fields", "heatmap_mask", "field_mask"
        maps = map(torch.from_numpy, make_maps(people, self.head, self.size, self.single))
        return item | dict(zip(names, maps, strict=True))

    def _view(self, rng: np.random.Generator) -> tuple[np.ndarray, People]:
        canvas = np.full((self.size, self.size, 3), augment.GREY, np.uint8)
        parts = []
        if not self.single and self.mosaic_shares.any() and rng.random() < self.config.mosaic:
            for x, y, w, h in tiles(rng, self.size):
                image, people = self._tile(rng, (w, h), self.mosaic_shares, min(w, h) / self.size)
                canvas[y : y + h, x : x + w] = image
                shift = np.array([x, y], np.float32)
                people.joints[..., :2] += shift
                people.boxes[:, :2] += shift
                people.ignore[:, :2] += shift
                people.bare[:, :2] += shift
                parts.append(people)
        else:
            canvas, people = self._tile(rng, (self.size, self.size), self.shares, 1.0)
            parts = [people]
        people = People(*(np.concatenate([getattr(p, n) for p in parts]) for n in People.__dataclass_fields__))
        canvas = augment.permute_channels(rng, self.config, augment.change_colours(rng, self.config, canvas))
        canvas = augment.mask_joints(rng, self.config, canvas, people.joints)
        return augment.mask_body(rng, self.config, canvas), people

    def _tile(
        self, rng: np.random.Generator, tile: tuple[int, int], shares: np.ndarray, scale: float
    ) -> tuple[np.ndarray, People]:
        data = self.sets[rng.choice(len(self.sets), p=shares)]
        number = int(rng.integers(len(data.names)))
        self._seen.append(data.names[number])
        image, people, main = data.files.image(data.names[number]), data.people[number], data.main[number]
        (height, width), told = image.shape[:2], data.sizes[number]
        if all(told) and told != (width, height):
            raise ValueError(
                f"{data.names[number]}: has {width}x{height} pixels, but {told[0]}x{told[1]} in {data.source.data}, so"
                " that its joints lie elsewhere; write its own size, and joints as it is shown, turned"
            )
        box = None
        if self.single:
            which, none, alone = [int(rng.choice(main))], people.ignore[:0], len(people.boxes) == 1
            people = People(people.joints[which], people.boxes[which], people.unsure[which], none, none)
            if not (alone and rng.random() < self.config.whole):
                box = people.boxes[0] if self.config.box == "annotated" else _joint_box(people.joints[0])
        elif len(main) and rng.random() >= self.config.whole:
            box = people.boxes[rng.choice(main)]
        low, high = self.config.person
        person = (min(low, high * scale), high * scale)
        stretch = augment.random_stretch(rng) if data.source.squashed else 1.0
        matrix = augment.placement(rng, self.config, (image.shape[1], image.shape[0]), box, tile, stretch, person)
        order = self.head.skeleton.flip_order
        joints = augment.move_joints(people.joints, matrix, order)
        mirrored = np.linalg.det(matrix[:, :2]) < 0
        # A joint that fell off the tile cannot be seen: it gets no Gaussian and no limb.
        inside = ((joints[..., :2] >= 0) & (joints[..., :2] < np.array(tile))).all(-1)
        joints[..., 2] *= inside
        unsure = people.unsure[:, list(order)] if mirrored else people.unsure
        boxes = (augment.move_boxes(b, matrix) for b in (people.boxes, people.ignore, people.bare))
        # What lies beyond the tile is another image's.
        moved, ignore, bare = (_clipped(b, tile) for b in boxes)
        here = (moved[:, 2:] > 0).all(1) | (joints[..., 2] > 0).any(1) | self.single
        people = People(joints.astype(np.float32)[here], moved[here], unsure[here], _some(ignore), _some(bare))
        return augment.warp(image, matrix, tile), people


def _clipped(boxes: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """The parts of (N, 4) boxes x, y, w, h that lie in a tile."""
    low = boxes[:, :2].clip(0, tile)
    return np.concatenate([low, (boxes[:, :2] + boxes[:, 2:]).clip(0, tile) - low], 1)


def _some(boxes: np.ndarray) -> np.ndarray:
    return boxes[(boxes[:, 2:] > 0).all(1)]


def _load(opened: KeypointSet, source: Source, root: Path, head: Head, need: bool, kind: str) -> _Loaded:
    """What a source's table asks for; images without a person to crop around only if none is ``need``ed.

    Raises:
        ValueError: the data has none of the network's joints, or no image is left.
        FileNotFoundError: images are not there.
    """
    if not set(opened.skeleton.joints) & set(head.skeleton.joints):
        raise ValueError(
            f"{opened.name}: its joints ({', '.join(opened.skeleton.joints)}) are none of the network's"
            f' ({", ".join(head.skeleton.joints)}); put skeleton = "data" into the recipe'
        )
    skip = set()
    if source.without:
        skip = {p.id for s in ("train", "val") for p in KeypointSet.open(root / source.without, s).records}
    loaded = _Loaded(source, opened.files, [], [], [], [])
    for record in opened.records:
        if source.large and not record.width:
            raise ValueError(f"{opened.name}: large = {source.large} needs sizes of images, which this format lacks")
        people = read_people(record.people, opened.skeleton.joints, head, kind)
        labelled = (people.joints[..., 2] > 0).sum(1)
        large = people.boxes[:, 2:].max(1, initial=0) >= source.large * max(record.width, record.height)
        main = np.flatnonzero((labelled >= source.joints) & large)
        if record.id in skip or (need and not len(main)) or len(loaded.names) == (source.first or -1):
            continue
        loaded.names.append(record.file_name)
        loaded.people.append(people)
        loaded.main.append(main)
        loaded.sizes.append((record.width, record.height))
    if not loaded.names:
        raise ValueError(f"{opened.name}: no image has what the recipe asks for ({source})")
    if lost := [name for name in loaded.names if name not in opened.files]:
        raise FileNotFoundError(
            f"{opened.name}: {len(lost)} of its {len(loaded.names)} images are not there, as {', '.join(lost[:3])};"
            " say where they are by images, or take them out"
        )
    return loaded


def _joint_box(joints: np.ndarray) -> np.ndarray:
    """(x, y, w, h) around the labelled ones of (K, 3)."""
    xy = joints[joints[:, 2] > 0, :2]
    if not len(xy):
        xy = np.zeros((1, 2), np.float32)
    return np.concatenate([xy.min(0), xy.max(0) - xy.min(0)])


def _boxes(people: People, size: int) -> dict[str, Tensor]:
    """Boxes within the image that are larger than four pixels; people without keypoints have 0, 0, 0 for all."""
    joints = np.concatenate([people.joints, np.zeros((len(people.bare), *people.joints.shape[1:]), np.float32)])
    boxes = np.concatenate([people.boxes, people.bare]).astype(np.float32)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1).clip(0, size)
    seen = (corners[:, 2:] - corners[:, :2] > 4).all(1)
    return {"boxes": torch.from_numpy(corners[seen]), "keypoints": torch.from_numpy(joints[seen])}


def collate(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Stack what has one shape; what differs in length stays a list."""
    names = items[0].keys()
    lists: dict[str, Any] = {name: [item[name] for item in items] for name in names}
    for name in names - {"boxes", "keypoints", "number"}:
        lists[name] = torch.stack(lists[name])
    return lists


def tiles(rng: np.random.Generator, size: int) -> list[tuple[int, int, int, int]]:
    """Cut a square into two or four tiles (x, y, w, h) at random places."""
    x, y = (int(v) for v in rng.uniform(0.35, 0.65, 2) * size)
    kind = rng.integers(3)
    if kind == 0:
        return [(0, 0, x, size), (x, 0, size - x, size)]
    if kind == 1:
        return [(0, 0, size, y), (0, y, size, size - y)]
    return [(0, 0, x, y), (x, 0, size - x, y), (0, y, x, size - y), (x, y, size - x, size - y)]


def make_maps(
    people: People, head: Head, size: int, single: bool = False
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets and masks of one image; a channel is masked where its label is unsure and nothing is labelled.

    That is inside the person's box, for around it others may be labelled; everywhere for networks of a ``single``
    person.
    """
    cells = size // head.stride
    heat, field_ = heatmaps(people.joints, head, cells, cells), fields(people.joints, head, cells, cells)
    heat_mask = np.ones(heat.shape, bool)
    field_mask = np.ones((len(head.limbs), cells, cells), bool)
    for box in people.ignore:
        where = _cells_of(box, head.stride, cells)
        heat_mask[:, *where] = False
        field_mask[:, *where] = False
    for box, unsure in zip(people.boxes, people.unsure, strict=True):
        if not unsure.any():
            continue
        where = (slice(None), slice(None)) if single else _cells_of(box, head.stride, cells)
        heat_mask[unsure, *where] = False
        field_mask[np.array([unsure[a] or unsure[b] for a, b in head.limbs], bool), *where] = False
    heat_mask |= heat > 0.05
    field_mask |= (field_.reshape(-1, 2, cells, cells) != 0).any(1)
    if head.background:
        heat = np.concatenate([heat, 1 - heat.max(0, keepdims=True)])
        heat_mask = np.concatenate([heat_mask, heat_mask.all(0, keepdims=True)])
    return heat, field_, heat_mask, field_mask


def _cells_of(box: np.ndarray, stride: int, cells: int) -> tuple[slice, slice]:
    """Rows and columns of a box, grown by one cell."""
    x0, y0 = np.clip(np.floor(box[:2] / stride) - 1, 0, cells).astype(int)
    x1, y1 = np.clip(np.ceil((box[:2] + box[2:]) / stride) + 1, 0, cells).astype(int)
    return slice(y0, y1), slice(x0, x1)
