"""Training of person detectors: samples, assignment of people to cells, loss."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.formats import open_dataset
from ..data.image_cache import ImageCache, open_cache
from ..errors import DatasetError
from ..geometry import GREY, warp
from . import augment
from .augment import AugmentConfig
from .config import Source
from .samples import Batch, prefetched, tiles

# Pixels. People with a shorter side below it, or with less than 0.3 of their box inside the image, are masked.
LEAST = 3.0
TOP = 9  # most cells that a person is assigned to
CENTRE = 2.5  # a person's cells lie within this distance from the box's centre, in strides
SURE = 0.3  # lowest score of a box in a file of people without annotations


@dataclass
class _Images:
    """All images of one source; boxes are in pixels of the cached image."""

    source: Source
    cache: ImageCache
    names: list[str]
    people: list[np.ndarray]  # (P, 4) x, y, w, h
    ignore: list[np.ndarray]  # (R, 4) regions where people are not, or not reliably, annotated


class DetectionSamples:
    """Training samples of person detectors. Sample i is always the same: all randomness is seeded by (seed, i).

    Targets of a batch: ``boxes`` (N, P, 4) float32 x0, y0, x1, y1 in pixels; ``count`` (N,), how many of them are
    people; ``ignore`` (N, R, 4), padded with boxes of size 0.

    Args:
        sources: data sets; a sample's data set is drawn by weight, then its image uniformly.
        root: folder that the sources are relative to.
        size: side of the square input.
        config: augmentation.
        seed: seed of all randomness.
        cache: folder for decoded images.
    """

    def __init__(
        self, sources: Sequence[Source], root: Path, size: int, config: AugmentConfig, seed: int, cache: Path
    ) -> None:
        self.size, self.config, self.seed = size, config, seed
        self.sets = [_load(source, root, cache) for source in sources]
        shares = np.array([source.weight for source in sources], float)
        if shares.min() < 0 or not shares.sum():
            raise DatasetError(
                f"weight = {', '.join(map(str, shares))}: must be 0 or more, and above 0 in at least one source"
            )
        self.bounds = np.cumsum(shares / shares.sum())

    def __len__(self) -> int:
        return sum(len(images.names) for images in self.sets)

    def image_names(self, number: int) -> list[str]:
        """Return the names of the images of a sample."""
        return self._sample(np.random.default_rng((self.seed, number)))[3]

    def batches(self, first: int, end: int, batch: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield batches of samples ``first`` to ``end``, prepared in threads; each process gets its share."""
        return prefetched(self.batch, range(first + rank, end, world), batch // world)

    def batch(self, numbers: Sequence[int]) -> Batch:
        """Return the samples with these numbers."""
        samples = [self._sample(np.random.default_rng((self.seed, number))) for number in numbers]
        image = np.stack([sample[0] for sample in samples]).transpose(0, 3, 1, 2)
        people, ignore = _padded([sample[1] for sample in samples]), _padded([sample[2] for sample in samples])
        count = torch.tensor([len(sample[1]) for sample in samples])
        return Batch(list(numbers), torch.from_numpy(image), {"boxes": people, "count": count, "ignore": ignore})

    def _sample(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
        """Return an image, boxes of people, masked boxes, and the names of the source images."""
        size, config = self.size, self.config
        places = tiles(rng, size) if rng.random() < config.mosaic else [(0, 0, size, size)]
        canvas, people, ignore, names = np.full((size, size, 3), GREY, np.uint8), [], [], list[str]()
        for x, y, w, h in places:
            image, boxes, masked, name = self._tile(rng, (w, h))
            names.append(name)
            canvas[y : y + h, x : x + w] = image
            people.append(boxes + np.array([x, y, x, y], np.float32))
            ignore.append(masked + np.array([x, y, x, y], np.float32))
        return augment.change_colours(rng, config, canvas), np.concatenate(people), np.concatenate(ignore), names

    def _tile(self, rng: np.random.Generator, tile: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
        images = self.sets[min(int(np.searchsorted(self.bounds, rng.random())), len(self.sets) - 1)]
        number = int(rng.integers(len(images.names)))
        pixels = images.cache[number]
        stretch = augment.random_stretch(rng) if images.source.squashed else 1.0
        wide, high = math.sqrt(stretch), 1 / math.sqrt(stretch)
        height, width = pixels.shape[:2]
        low, top = self.config.whole_zoom
        zoom = min(tile[0] / (width * wide), tile[1] / (height * high))
        zoom *= math.exp(rng.uniform(math.log(low), math.log(top)))
        scale = np.array([zoom * wide, zoom * high])
        mirrored = rng.random() < self.config.flip
        room = np.array(tile) - scale * (width, height)  # an image larger than the tile is cropped at random
        corner = room * rng.random(2)
        matrix = np.array([[scale[0], 0, corner[0]], [0, scale[1], corner[1]]])
        matrix[:, 2] += scale / 2 - 0.5
        if mirrored:
            matrix[0] = -matrix[0]
            matrix[0, 2] += tile[0] - 1
        people, ignore = (_corners(b, matrix) for b in (images.people[number], images.ignore[number]))
        kept, cut = _clipped(people, tile)
        masked = np.concatenate([cut, _clipped(ignore, tile, 0)[0]])
        return warp(pixels, matrix, (tile[1], tile[0])), kept, masked, images.names[number]


def _corners(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move (N, 4) x, y, w, h by a map of pixel centres without rotation; returns x0, y0, x1, y1.

    Boxes refer to pixel edges: an image begins at 0, and the centre of its first pixel lies at 0.5.
    """
    ends = np.stack([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) - 0.5
    ends = ends @ matrix[:, :2].T + matrix[:, 2] + 0.5
    return np.concatenate([ends.min(1), ends.max(1)], 1).astype(np.float32)


def _clipped(boxes: np.ndarray, tile: tuple[int, int], share: float = 0.3) -> tuple[np.ndarray, np.ndarray]:
    """Clip boxes to a tile; returns the boxes to learn, and those to mask because too little of them is left."""
    limit = np.array([*tile, *tile], np.float32)
    cut = np.clip(boxes, 0, limit)
    sides, whole = cut[:, 2:] - cut[:, :2], boxes[:, 2:] - boxes[:, :2]
    there = (sides > 0).all(1)
    good = there & (sides.min(1) >= (LEAST if share else 0)) & (sides.prod(1) >= share * whole.prod(1))
    return cut[good], cut[there & ~good]


def _padded(boxes: list[np.ndarray]) -> Tensor:
    """Stack a list of (P_i, 4) to (N, P, 4), padded with zeros."""
    out = torch.zeros(len(boxes), max(1, *map(len, boxes)), 4)
    for i, own in enumerate(boxes):
        out[i, : len(own)] = torch.from_numpy(own)
    return out


def _load(source: Source, root: Path, cache: Path) -> _Images:
    opened = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
    left_out = _left_out(root / source.ignore, source) if source.ignore else {}
    records, people, ignore = opened.records[: source.first or None], [], []
    for record in records:
        crowd = [bool(a.get("iscrowd")) for a in record.people]
        boxes = np.array([a["bbox"] for a in record.people], np.float32).reshape(-1, 4)
        further = np.array(left_out.get(record.id, ()), np.float32).reshape(-1, 4)
        people.append(boxes[~np.array(crowd, bool)])
        ignore.append(np.concatenate([boxes[np.array(crowd, bool)], further]))
    if not records:
        raise DatasetError(f"{opened.name}: contains no images ({source})")
    store = open_cache(opened, records, cache)
    for number in range(len(records)):
        scale = np.tile(store.scale(number), 2).astype(np.float32)
        people[number], ignore[number] = people[number] * scale, ignore[number] * scale
    return _Images(source, store, [record.file_name for record in records], people, ignore)


def _left_out(path: Path, source: Source) -> dict[int, list[list[float]]]:
    """Read boxes of people without annotations, by image id.

    The file is JSON: ``{"ARCHIVE/SPLIT.json": [{"image_id": ..., "bbox": [x, y, w, h], "score": ...}, ...]}``.
    """
    raw = path.read_bytes()
    content = json.loads(gzip.decompress(raw) if raw[:2] == b"\x1f\x8b" else raw)
    key = f"{Path(source.data).stem}/{source.split}.json"
    if key not in content:
        raise DatasetError(f"{path}: contains no boxes for {key}; available: {', '.join(content)}")
    boxes: dict[int, list[list[float]]] = {}
    for box in content[key]:
        if box["score"] >= SURE:
            boxes.setdefault(box["image_id"], []).append(box["bbox"])
    return boxes


def iou_pairs(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalized IoU (Rezatofighi et al. 2019) of boxes x0, y0, x1, y1 that broadcast to each other."""
    overlap = (torch.minimum(a[..., 2:], b[..., 2:]) - torch.maximum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    areas = [(box[..., 2:] - box[..., :2]).clamp(min=0).prod(-1) for box in (a, b)]
    union = areas[0] + areas[1] - overlap
    hull = (torch.maximum(a[..., 2:], b[..., 2:]) - torch.minimum(a[..., :2], b[..., :2])).clamp(min=0).prod(-1)
    iou = overlap / union.clamp(min=1e-6)
    return iou, iou - (hull - union) / hull.clamp(min=1e-6)


@torch.no_grad()
def assign(
    score: Tensor, boxes: Tensor, people: Tensor, count: Tensor, centres: Tensor, strides: Tensor
) -> tuple[Tensor, Tensor]:
    """Task-aligned assignment (Feng et al. 2021): each person is assigned the cells that predict it best.

    Args:
        score: (N, A) in [0, 1].
        boxes: (N, A, 4) predictions.
        people: (N, P, 4).
        count: (N,) number of them that are people.
        centres: (A, 2) centres of the cells.
        strides: (A,) strides of the cells.

    Returns:
        person (N, A), the index of the cell's person, -1 for background; target (N, A), the cell's target score.
    """
    there = torch.arange(people.shape[1], device=people.device) < count[:, None]  # (N, P)
    iou, _ = iou_pairs(people[:, :, None], boxes[:, None])  # (N, P, A)
    middle = (people[..., :2] + people[..., 2:]) / 2
    inside = ((centres > people[:, :, None, :2]) & (centres < people[:, :, None, 2:])).all(-1)
    near = (centres - middle[:, :, None]).abs().amax(-1) < CENTRE * strides
    # A small person between cell centres contains none; it then gets the nearest cells of the finest map.
    inside |= ((centres - middle[:, :, None]).abs().amax(-1) < strides) & (strides == strides.min())
    allowed = inside & near & there[..., None]
    metric = torch.where(allowed, score[:, None].clamp(min=1e-4).sqrt() * iou.clamp(min=1e-4) ** 3, -1.0)
    best = metric.topk(min(TOP, metric.shape[-1]), -1)
    chosen = torch.zeros_like(allowed).scatter_(-1, best.indices, best.values > 0)
    claim = torch.where(chosen, iou + 1e-3, -1.0)  # a cell claimed by several people goes to the best overlap
    overlap, person = claim.max(1)
    person = torch.where(overlap > 0, person, -1)
    mine = chosen & (person[:, None] == torch.arange(people.shape[1], device=people.device)[:, None])
    # The target of a person's best cell is the IoU of its box. Other cells get less, in proportion to their metric.
    top_metric = torch.where(mine, metric, 0).amax(-1, keepdim=True).clamp(min=1e-9)
    top_iou = torch.where(mine, iou, 0).amax(-1, keepdim=True)
    target = torch.where(mine, metric / top_metric * top_iou, 0).amax(1)
    return person, target


def detection_loss(
    logits: Tensor, boxes: Tensor, targets: dict[str, Any], centres: Tensor, strides: Tensor
) -> dict[str, Tensor]:
    """Quality focal loss of the scores (Li et al. 2020) and generalized IoU loss of the boxes.

    Args:
        logits: (N, A).
        boxes: (N, A, 4).
        targets: targets of :class:`DetectionSamples`.
        centres: (A, 2).
        strides: (A,).

    Returns:
        ``total`` and its parts ``scores`` and ``boxes``.
    """
    logits, people = logits.float(), targets["boxes"]
    person, target = assign(logits.sigmoid(), boxes, people, targets["count"], centres, strides)
    positive = person >= 0
    ignore = targets["ignore"]
    masked = ((centres > ignore[:, :, None, :2]) & (centres < ignore[:, :, None, 2:])).all(-1).any(1) & ~positive
    total = target.sum().clamp(min=1.0)
    focus = (target - logits.sigmoid()).abs().square()
    scores = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * focus * ~masked).sum() / total
    own = people.gather(1, person.clamp(min=0)[..., None].expand(-1, -1, 4))
    overlap = iou_pairs(boxes[positive], own[positive])[1]
    regression = ((1 - overlap) * target[positive]).sum() / total
    return {"total": scores + 2 * regression, "scores": scores.detach(), "boxes": regression.detach()}
