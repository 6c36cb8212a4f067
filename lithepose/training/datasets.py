"""Annotated photos -> training samples (picture, maps, masks)."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..annotations import KeypointSet
from ..skeleton import Head
from . import augment
from .augment import AugmentConfig
from .targets import fields, head_joints, heatmaps

FACE = ("nose", "left_eye", "right_eye", "left_ear", "right_ear")


@dataclass(frozen=True)
class Source:
    """One data set of a recipe.

    Attributes:
        data: folder, archive or json, relative to the data folder.
        split: name of the json in a folder or archive.
        images: where the photos are, if not there.
        weight: share of the samples, before normalisation.
        squashed: photos lost their aspect; stretch them back at random.
        mosaic: these photos may be joined into mosaics.
        without: another data set whose photos (by id) are left out, because they are the same ones.
    """

    data: str
    split: str = "train"
    images: tuple[str, ...] = ()
    weight: float = 1.0
    squashed: bool = False
    mosaic: bool = True
    without: str = ""


@dataclass
class People:
    """Annotations of one photo, ready for targets.

    Attributes:
        joints: (P, K, 3) in the head's order.
        boxes: (P, 4) x, y, w, h.
        unsure: (P, K) joints whose absence means nothing: their channels are masked inside the person's box.
        ignore: (R, 4) boxes in which people are not, or not surely, annotated.
    """

    joints: np.ndarray
    boxes: np.ndarray
    unsure: np.ndarray
    ignore: np.ndarray


def read_people(annotations: tuple[dict[str, Any], ...], names: tuple[str, ...], head: Head) -> People:
    """COCO annotation dicts -> People.

    Crowds and people without any keypoint become ignored regions. ``source: teacher`` marks labels made by a network
    (what it left out is unsure), ``face: unknown`` a person whose face it could not tell.
    """
    persons = [a for a in annotations if a["num_keypoints"] > 0 and not a.get("iscrowd")]
    ignore = [a["bbox"] for a in annotations if a["num_keypoints"] == 0 or a.get("iscrowd")]
    raw = np.array([a["keypoints"] for a in persons], np.float32).reshape(len(persons), len(names), 3)
    joints = head_joints(raw, names, head)
    unsure = np.zeros(joints.shape[:2], bool)
    face = [k for k, name in enumerate(head.skeleton.joints) if name in FACE]
    missing = [k for k, name in enumerate(head.skeleton.joints) if name not in names and name != "neck"]
    unsure[:, missing] = True
    for p, a in enumerate(persons):
        if a.get("source") == "teacher":
            unsure[p] |= joints[p, :, 2] == 0
        if a.get("face") == "unknown":
            unsure[p, face] = True
    boxes = np.array([a["bbox"] for a in persons], np.float32).reshape(-1, 4)
    return People(joints, boxes, unsure, np.array(ignore, np.float32).reshape(-1, 4))


@dataclass
class _Loaded:
    source: Source
    files: Any
    names: list[str]
    people: list[People] = field(default_factory=list)


class PoseSamples(Dataset[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]]):
    """Sample number i, the same whenever it is asked for: all randomness is seeded by (seed, i).

    Items are (image (3, S, S) uint8, heatmaps (K, s, s), fields (2 L, s, s), heatmap mask (K, s, s) bool,
    field mask (L, s, s) bool) with s = S / stride.
    """

    def __init__(
        self, sources: list[Source], root: Path, head: Head, size: int, config: AugmentConfig, seed: int = 0
    ) -> None:
        self.head, self.size, self.config, self.seed = head, size, config, seed
        self.sets: list[_Loaded] = []
        for source in sources:
            opened = KeypointSet.open(root / source.data, source.split, tuple(root / i for i in source.images))
            skip = set()
            if source.without:
                skip = {p.id for s in ("train", "val") for p in KeypointSet.open(root / source.without, s).photos}
            photos = [p for p in opened.photos if p.id not in skip]
            people = [read_people(p.people, opened.skeleton.joints, head) for p in photos]
            self.sets.append(_Loaded(source, opened.files, [p.file_name for p in photos], people))
        weights = np.array([s.source.weight for s in self.sets])
        self.shares = weights / weights.sum()
        self.mosaic_shares = weights * [s.source.mosaic for s in self.sets]
        self.mosaic_shares /= max(self.mosaic_shares.sum(), 1e-9)

    def __len__(self) -> int:
        return sum(len(s.names) for s in self.sets)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        canvas = np.full((self.size, self.size, 3), augment.GREY, np.uint8)
        parts = []
        if self.mosaic_shares.any() and rng.random() < self.config.mosaic:
            for x, y, w, h in _tiles(rng, self.size):
                image, people = self._tile(rng, (w, h), self.mosaic_shares, min(w, h) / self.size)
                canvas[y : y + h, x : x + w] = image
                shift = np.array([x, y], np.float32)
                people.joints[..., :2] += shift
                people.boxes[:, :2] += shift
                people.ignore[:, :2] += shift
                parts.append(people)
        else:
            canvas, people = self._tile(rng, (self.size, self.size), self.shares, 1.0)
            parts = [people]
        canvas = augment.mask_body(rng, self.config, augment.change_colours(rng, self.config, canvas))
        people = People(*(np.concatenate([getattr(p, n) for p in parts]) for n in People.__dataclass_fields__))
        image = torch.from_numpy(np.ascontiguousarray(canvas.transpose(2, 0, 1)))
        heat, field_, heat_mask, field_mask = map(torch.from_numpy, make_maps(people, self.head, self.size))
        return image, heat, field_, heat_mask, field_mask

    def _tile(
        self, rng: np.random.Generator, tile: tuple[int, int], shares: np.ndarray, scale: float
    ) -> tuple[np.ndarray, People]:
        data = self.sets[rng.choice(len(self.sets), p=shares)]
        number = int(rng.integers(len(data.names)))
        image, people = data.files.image(data.names[number]), data.people[number]
        box = None
        if len(people.boxes) and rng.random() >= self.config.whole:
            box = people.boxes[rng.integers(len(people.boxes))]
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
        boxes, ignore = augment.move_boxes(people.boxes, matrix), augment.move_boxes(people.ignore, matrix)
        return augment.warp(image, matrix, tile), People(joints.astype(np.float32), boxes, unsure, ignore)


def _tiles(rng: np.random.Generator, size: int) -> list[tuple[int, int, int, int]]:
    """Cut a square into two or four tiles (x, y, w, h) at random places."""
    x, y = (int(v) for v in rng.uniform(0.35, 0.65, 2) * size)
    kind = rng.integers(3)
    if kind == 0:
        return [(0, 0, x, size), (x, 0, size - x, size)]
    if kind == 1:
        return [(0, 0, size, y), (0, y, size, size - y)]
    return [(0, 0, x, y), (x, 0, size - x, y), (0, y, x, size - y), (x, y, size - x, size - y)]


def make_maps(people: People, head: Head, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Targets and masks of one picture; a channel is masked where its label is unsure and nothing is labelled."""
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
        where = _cells_of(box, head.stride, cells)
        heat_mask[unsure, *where] = False
        field_mask[np.array([unsure[a] or unsure[b] for a, b in head.limbs], bool), *where] = False
    heat_mask |= heat > 0.05
    field_mask |= (field_.reshape(-1, 2, cells, cells) != 0).any(1)
    return heat, field_, heat_mask, field_mask


def _cells_of(box: np.ndarray, stride: int, cells: int) -> tuple[slice, slice]:
    """Rows and columns of a box, grown by one cell."""
    x0, y0 = np.clip(np.floor(box[:2] / stride) - 1, 0, cells).astype(int)
    x1, y1 = np.clip(np.ceil((box[:2] + box[2:]) / stride) + 1, 0, cells).astype(int)
    return slice(y0, y1), slice(x0, x1)
