"""Person crops as training samples: reads images, returns batches of crops with their joints."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..data.coco import ImageRecord
from ..data.formats import open_dataset
from ..data.image_cache import ImageCache, open_cache
from ..errors import DatasetError
from ..geometry import CROP_MARGIN, warp
from ..heads.people import CropHead
from . import augment
from .augment import AugmentConfig
from .config import Source
from .samples import Batch, are_large, prefetched, read_people

ABSENT = 0.25  # weight of "not in the crop" for joints that the annotator left out: some of them are visible


@dataclass
class _People:
    """All people of one source, one row each."""

    source: Source
    cache: ImageCache
    names: list[str]
    image: np.ndarray  # (P,) index of the person's image
    boxes: np.ndarray  # (P, 4) x, y, w, h in pixels of the cached image
    joints: np.ndarray  # (P, K, 3) likewise
    weight: np.ndarray  # (P, K)


class CropSamples:
    """Training samples of person crops. Sample i is always the same: all randomness is seeded by (seed, i).

    Targets of a batch: ``joints`` (N, K, 2) float32 in pixels of the crop; ``visible`` (N, K) float32, 1 where a joint
    is labelled and in the crop; ``weight`` (N, K) float32, the weight of each joint's map, 0 where its label is
    unknown. Images are channels_last.

    Args:
        sources: data sets; a sample's data set is drawn by weight, then its person uniformly.
        root: folder that the sources are relative to.
        head: head of the network, which names the joints.
        shapes: (height, width) of crops and the share of batches with each; all crops of a batch have the same shape.
        config: augmentation.
        seed: seed of all randomness.
        cache: folder for decoded images.

    Raises:
        MissingFileError: a data set or its images are missing.
        DatasetError: a source has no people.
    """

    def __init__(
        self,
        sources: Sequence[Source],
        root: Path,
        head: CropHead,
        shapes: Sequence[tuple[tuple[int, ...], float]],
        config: AugmentConfig,
        seed: int = 0,
        cache: Path = Path("cache"),
    ) -> None:
        self.head, self.shapes, self.config, self.seed = head, shapes, config, seed
        self.sets = [_load(source, root, head, cache) for source in sources]
        shares = np.array([source.weight for source in sources], float)
        if shares.min() < 0 or not shares.sum():
            raise DatasetError(
                f"weight = {', '.join(map(str, shares))}: must be 0 or more, and above 0 in at least one source"
            )
        self.bounds = np.cumsum(shares / shares.sum())
        self.order = list(head.skeleton.flip_order)
        low = [k for k, joint in enumerate(head.skeleton.joints) if joint.endswith(("hip", "knee", "ankle"))]
        self.halves = [[k for k in range(len(head.skeleton)) if k not in low], low]

    def __len__(self) -> int:
        return sum(len(people.image) for people in self.sets)

    def image_names(self, number: int) -> list[str]:
        """Return the name of the image of a sample."""
        people, person = self._draw(np.random.default_rng((self.seed, number)))
        return [people.names[people.image[person]]]

    def _draw(self, rng: np.random.Generator) -> tuple[_People, int]:
        people = self.sets[min(int(np.searchsorted(self.bounds, rng.random())), len(self.sets) - 1)]
        return people, int(rng.integers(len(people.image)))

    def batch(self, numbers: Sequence[int], key: int = 0) -> Batch:
        """Return the samples with these numbers; ``key`` selects the shape of the crops."""
        rng, shares = np.random.default_rng((self.seed, key, 1)), np.cumsum([share for _, share in self.shapes])
        shape = self.shapes[int(np.searchsorted(shares[:-1], rng.random()))][0]
        (height, width), k = shape, len(self.head.skeleton)
        image = np.empty((len(numbers), height, width, 3), np.uint8)
        joints, visible, weight = (
            np.empty((len(numbers), k, 2), np.float32),
            *np.empty((2, len(numbers), k), np.float32),
        )
        for i, number in enumerate(numbers):
            image[i], joints[i], visible[i], weight[i] = self._sample(np.random.default_rng((self.seed, number)), shape)
        arrays = {"joints": joints, "visible": visible, "weight": weight}
        targets = {name: torch.from_numpy(array) for name, array in arrays.items()}
        return Batch(list(numbers), torch.from_numpy(image.transpose(0, 3, 1, 2)), targets)

    def batches(self, first: int, end: int, batch: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield batches of samples ``first`` to ``end``, prepared in threads; each process gets its share."""

        def make(numbers: Sequence[int]) -> Batch:
            return self.batch(numbers, numbers[0] // batch)  # the same shape in all processes

        return prefetched(make, range(first + rank, end, world), batch // world)

    def _sample(
        self, rng: np.random.Generator, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        people, person = self._draw(rng)
        config, (height, width) = self.config, shape
        pixels, joints = people.cache[people.image[person]], people.joints[person]
        box = self._box(rng, people.boxes[person], joints)
        stretch = augment.random_stretch(rng) if people.source.squashed else 1.0
        matrix = self._matrix(rng, box, stretch, shape)
        xy = joints[:, :2] @ matrix[:, :2].T + matrix[:, 2]
        labelled, weight = joints[:, 2] > 0, people.weight[person]
        if matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0] < 0:
            xy, labelled, weight = xy[self.order], labelled[self.order], weight[self.order]
        inside = (xy > -0.5).all(1) & (xy < (width - 0.5, height - 0.5)).all(1)
        crop = warp(pixels, matrix, shape)
        crop = augment.change_colours(rng, config, crop)
        crop = augment.mask_body(rng, config, crop)
        return crop, xy.astype(np.float32), (labelled & inside).astype(np.float32), weight

    def _box(self, rng: np.random.Generator, box: np.ndarray, joints: np.ndarray) -> np.ndarray:
        """Return the person's box, or that of one half of the body."""
        if rng.random() >= self.config.half_body:
            return box
        half = self.halves[int(rng.integers(2))]
        xy = joints[half][joints[half, 2] > 0, :2]
        if len(xy) < 3 or (joints[:, 2] > 0).sum() < 8:
            return box
        low, high = xy.min(0), xy.max(0)
        middle, size = (low + high) / 2, np.maximum((high - low) * 1.2, 0.15 * box[2:].max())
        return np.concatenate([middle - size / 2, size])

    def _matrix(self, rng: np.random.Generator, box: np.ndarray, stretch: float, shape: tuple[int, ...]) -> np.ndarray:
        """Draw an affine map (2, 3) from image to crop: stretch, zoom, rotation, shift, mirroring."""
        config, (height, width) = self.config, shape
        wide, high = math.sqrt(stretch), 1 / math.sqrt(stretch)
        w, h = max(box[2] * wide, 4.0), max(box[3] * high, 4.0)
        zoom = min(width / w, height / h) / CROP_MARGIN
        zoom *= math.exp(rng.uniform(math.log(config.crop_zoom[0]), math.log(config.crop_zoom[1])))
        angle = 0.0
        if rng.random() < config.rotate_share:
            angle = math.radians(min(max(rng.normal(0, config.rotate), -2 * config.rotate), 2 * config.rotate))
        c, s = math.cos(angle) * zoom, math.sin(angle) * zoom
        linear = np.array([[c * wide, -s * high], [s * wide, c * high]])
        if rng.random() < config.flip:
            linear[0] = -linear[0]
        centre = box[:2] + box[2:] / 2
        shift = rng.uniform(-config.crop_shift, config.crop_shift, 2) * (w * zoom, h * zoom)
        target = np.array([(width - 1) / 2, (height - 1) / 2]) + shift
        return np.concatenate([linear, (target - linear @ centre)[:, None]], 1)


def _load(source: Source, root: Path, head: CropHead, cache: Path) -> _People:
    """Load the people that a source selects.

    Raises:
        DatasetError: there are none, or an image's size differs from its annotation.
    """
    opened = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
    records, image = list[ImageRecord](), list[int]()
    boxes, joints, weights = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for record in opened.records:
        chosen = _choose(record, source, opened.skeleton.joints, head)
        if not len(chosen[0]) or len(records) == (source.first or -1):
            continue
        image += [len(records)] * len(chosen[0])
        for found, more in zip((boxes, joints, weights), chosen, strict=True):
            found.extend(more)
        records.append(record)
    if not records:
        raise DatasetError(f"{opened.name}: no person matches the recipe ({source})")
    store = open_cache(opened, records, cache)
    number = np.array(image)
    scale = np.array([store.scale(i) for i in range(len(records))])[number]
    people = np.array(joints, np.float32)
    people[..., :2] = (people[..., :2] + 0.5) * scale[:, None] - 0.5
    box = np.array(boxes, np.float32) * np.tile(scale, 2)
    box[:, :2] += scale / 2 - 0.5  # corners refer to pixel centres, as joints do
    names = [record.file_name for record in records]
    return _People(source, store, names, number, box.astype(np.float32), people, np.array(weights, np.float32))


def _choose(
    record: ImageRecord, source: Source, names: tuple[str, ...], head: CropHead
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return boxes (P, 4), joints (P, K, 3) and weights (P, K) of the people of an image that a source selects."""
    if source.unlabelled:
        boxes = np.array([a["bbox"] for a in record.people if a.get("iscrowd")], np.float32).reshape(-1, 4)
        joints = np.zeros((len(boxes), len(head.skeleton), 3), np.float32)
        weights = np.zeros(joints.shape[:2], np.float32)
        chosen = np.ones(len(boxes), bool)
    else:
        people = read_people(record.people, names, head)
        annotations = [a for a in record.people if a["num_keypoints"] > 0 and not a.get("iscrowd")]
        each = zip(annotations, people.joints, people.unsure, strict=True)
        boxes, joints = people.boxes, people.joints
        weights = np.array([joint_weights(*one, names, head) for one in each], np.float32).reshape(joints.shape[:2])
        chosen = (joints[..., 2] > 0).sum(1) >= source.joints
    chosen &= are_large(boxes, source, record)
    return boxes[chosen], joints[chosen], weights[chosen]


def joint_weights(
    annotation: dict[str, object], joints: np.ndarray, unsure: np.ndarray, names: tuple[str, ...], head: CropHead
) -> np.ndarray:
    """Return weights (K,) of a person's heatmaps.

    1 for a labelled joint; if the annotation states its ``reliability``, ``reliability / 0.6``, clipped to [0.2, 1].
    0 where the label is unknown. For a joint that was left out: :data:`ABSENT` if the person has at least five labelled
    joints, otherwise 0.
    """
    labelled = joints[:, 2] > 0
    absent = ABSENT if labelled.sum() >= 5 else 0.0
    weight = np.where(labelled, 1.0, np.where(unsure, 0.0, absent)).astype(np.float32)
    reliability = annotation.get("reliability")
    if isinstance(reliability, list) and len(reliability) == len(names):
        for k, joint in enumerate(head.skeleton.joints):
            if joint in names and labelled[k]:
                weight[k] = min(max(float(reliability[names.index(joint)]) / 0.6, 0.2), 1.0)
    return weight


def gaussian_targets(joints: Tensor, visible: Tensor, head: CropHead, shape: tuple[int, int]) -> Tensor:
    """Draw heatmaps of single people, as outer products of two one-dimensional Gaussians.

    Args:
        joints: (N, K, 2) in pixels of the crop.
        visible: (N, K).
        head: supplies stride and sigma.
        shape: (height, width) of the maps.

    Returns:
        (N, K, height, width) float32 in [0, 1].
    """
    cells = (joints - (head.stride / 2 - 0.5)) / head.stride
    across = torch.arange(shape[1], device=joints.device, dtype=torch.float32)
    down = torch.arange(shape[0], device=joints.device, dtype=torch.float32)
    x = torch.exp(-((across - cells[..., :1]) ** 2) / (2 * head.sigma**2))
    y = torch.exp(-((down - cells[..., 1:]) ** 2) / (2 * head.sigma**2)) * visible[..., None]
    return y[..., :, None] * x[..., None, :]
