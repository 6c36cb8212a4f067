"""Annotated images -> training samples (image, maps, masks)."""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..data.coco import ImageRecord, KeypointSet, check_size
from ..data.formats import open_dataset
from ..errors import DatasetError, MissingFileError
from ..heads.base import Head
from ..heads.labels import Labels, reorder_joints
from ..skeleton import FACE
from . import augment
from .augment import AugmentConfig
from .config import Source

WORKERS: set[BaseProcess] = set()  # processes that make samples
THREADS, AHEAD = 2, 4  # batches made at once, and batches that wait


@dataclass
class Batch:
    """Samples of one training step.

    Attributes:
        numbers: numbers of the samples.
        images: (N, 3, H, W) uint8 RGB.
        targets: other inputs of the loss by name: tensors, or lists of tensors of different lengths.
    """

    numbers: list[int]
    images: Tensor
    targets: dict[str, Any]

    def to(self, device: torch.device) -> Batch:
        """Return the batch on a device."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory, for asynchronous copies to a GPU. Called by the loader."""
        return self._map(Tensor.pin_memory)

    def _map(self, change: Callable[[Tensor], Tensor]) -> Batch:
        targets = {k: [change(t) for t in v] if isinstance(v, list) else change(v) for k, v in self.targets.items()}
        return Batch(self.numbers, change(self.images), targets)


def read_people(annotations: tuple[dict[str, Any], ...], names: tuple[str, ...], head: Head[Any]) -> Labels:
    """Convert COCO annotation dicts to labels. Detectors learn people's own boxes, not the boxes to crop around.

    Crowds and people without any keypoint become ignored regions. ``source: teacher`` marks labels made by a network
    (joints that it left out are unsure). ``face: unknown`` marks a person without labels of the face.
    """
    persons = [a for a in annotations if a["num_keypoints"] > 0 and not a.get("iscrowd")]
    ignore = [a["bbox"] for a in annotations if a["num_keypoints"] == 0 or a.get("iscrowd")]
    raw = np.array([a["keypoints"] for a in persons], np.float32).reshape(len(persons), len(names), 3)
    joints = reorder_joints(raw, names, head.skeleton)
    unsure = np.zeros(joints.shape[:2], bool)
    face = [k for k, name in enumerate(head.skeleton.joints) if name in FACE]
    neck = {"neck"} if {"left_shoulder", "right_shoulder"} <= set(names) else set[str]()  # the neck lies between them
    missing = [k for k, name in enumerate(head.skeleton.joints) if name not in {*names} | neck]
    unsure[:, missing] = True
    for p, a in enumerate(persons):
        if a.get("source") == "teacher":
            unsure[p] |= joints[p, :, 2] == 0
        if a.get("face") == "unknown":
            unsure[p, face] = True
    own = [a["bbox"] if head.learns_boxes else a.get("centre_box", a["bbox"]) for a in persons]
    boxes = np.array(own, np.float32).reshape(-1, 4)
    bare = [a["bbox"] for a in annotations if a["num_keypoints"] == 0 and not a.get("iscrowd")]
    return Labels(joints, boxes, unsure, *(np.array(b, np.float32).reshape(-1, 4) for b in (ignore, bare)))


def are_large(boxes: np.ndarray, source: Source, record: ImageRecord) -> np.ndarray:
    """Return which boxes (P, 4) reach the share of the image's longer side that a source requires, (P,) bool.

    Raises:
        DatasetError: the data set does not give the sizes of its images.
    """
    if source.large and not record.width:
        raise DatasetError(
            f"{source.data}: large = {source.large} needs the sizes of the images, which this format does not contain"
        )
    return boxes[:, 2:].max(1, initial=0) >= source.large * max(record.width, record.height)


@dataclass
class _Loaded:
    source: Source
    files: Any
    names: list[str]
    people: list[Labels]
    main: list[np.ndarray]  # people that a crop may be made around, per image
    sizes: list[tuple[int, int]]  # width and height; 0 where the data set does not give them


class PoseSamples(Dataset[dict[str, Any]]):
    """Training samples of images. Sample i is always the same: all randomness is seeded by (seed, i).

    Items are dicts with ``image`` (3, S, S) uint8, ``number`` and the encoded targets, see
    :meth:`lithepose.heads.base.Head.encode`. Single-person networks get a crop around one person of an image, with
    targets of this person only.
    """

    def __init__(
        self,
        sources: list[Source],
        root: Path,
        head: Head[Any],
        size: int,
        config: AugmentConfig,
        seed: int = 0,
    ) -> None:
        self.head, self.size, self.config, self.seed = head, size, config, seed
        self.sets: list[_Loaded] = []
        for source in sources:
            opened = open_dataset(root / source.data, source.split, tuple(root / i for i in source.images))
            need = source.people or head.single_person or head.learns_boxes
            self.sets.append(_load(opened, source, root, head, need))
        weights = np.array([s.source.weight for s in self.sets])
        if weights.min() < 0 or not weights.sum():
            raise DatasetError(
                f"weight = {', '.join(map(str, weights))}: must be 0 or more, and above 0 in at least one source"
            )
        self.shares = weights / weights.sum()
        self.mosaic_shares = weights * [s.source.mosaic for s in self.sets]
        self.mosaic_shares /= max(self.mosaic_shares.sum(), 1e-9)
        self._seen: list[str] = []

    def __len__(self) -> int:
        return sum(len(s.names) for s in self.sets)

    def image_names(self, number: int) -> list[str]:
        """Return the names of the images of a sample."""
        self._seen = []
        self[number]
        return self._seen

    def __getitem__(self, number: int) -> dict[str, Any]:
        image, people = self._view(np.random.default_rng((self.seed, number)))
        item: dict[str, Any] = {
            "number": number,
            "image": torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
        }
        targets = self.head.encode(people, self.size)
        return item | {name: torch.from_numpy(array) for name, array in targets.items()}

    def batches(self, first: int, end: int, batch: int, rank: int = 0, world: int = 1) -> Iterator[Batch]:
        """Yield batches of samples ``first`` to ``end``, prepared in workers; each process gets its share.

        Raises:
            OSError, DatasetError: a sample cannot be made. The error is raised without the worker's traceback.
        """
        cuda, neighbours = torch.cuda.is_available(), int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        loader: Any = DataLoader(
            self,
            batch // world,
            sampler=range(first + rank, end, world),  # pyright: ignore
            num_workers=max(1, min(8, (os.cpu_count() or 1) // neighbours)) if cuda else 1,
            prefetch_factor=4,
            pin_memory=cuda,
            collate_fn=collate,
            worker_init_fn=_ignore_signals,
        )
        others = set(multiprocessing.active_children())
        made: Any = iter(loader)
        workers = set(multiprocessing.active_children()) - others
        WORKERS.update(workers)
        try:
            yield from made
        except (OSError, ValueError) as error:
            # The frames hold the error and the loader, and the loader its workers, so the process would wait for them.
            traceback.clear_frames(error.__traceback__)
            lines = str(error).strip().splitlines()
            if not lines or "in DataLoader worker process" not in lines[0]:
                raise
            raise type(error)(lines[-1].partition(": ")[2]) from None
        finally:
            made = None  # this tells the workers to end
            for worker in workers:
                if worker.is_alive():
                    worker.kill()
            WORKERS.difference_update(workers)

    def _view(self, rng: np.random.Generator) -> tuple[np.ndarray, Labels]:
        canvas = np.full((self.size, self.size, 3), augment.GREY, np.uint8)
        parts = []
        if not self.head.single_person and self.mosaic_shares.any() and rng.random() < self.config.mosaic:
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
        people = Labels(*(np.concatenate([getattr(p, n) for p in parts]) for n in Labels.__dataclass_fields__))
        canvas = augment.permute_channels(rng, self.config, augment.change_colours(rng, self.config, canvas))
        canvas = augment.mask_joints(rng, self.config, canvas, people.joints)
        return augment.mask_body(rng, self.config, canvas), people

    def _tile(
        self, rng: np.random.Generator, tile: tuple[int, int], shares: np.ndarray, scale: float
    ) -> tuple[np.ndarray, Labels]:
        data = self.sets[rng.choice(len(self.sets), p=shares)]
        number = int(rng.integers(len(data.names)))
        self._seen.append(data.names[number])
        image, people, main = data.files.image(data.names[number]), data.people[number], data.main[number]
        check_size(data.names[number], data.sizes[number], (image.shape[1], image.shape[0]), data.source.data)
        box = None
        if self.head.single_person:
            which, none, alone = [int(rng.choice(main))], people.ignore[:0], len(people.boxes) == 1
            people = Labels(people.joints[which], people.boxes[which], people.unsure[which], none, none)
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
        # A joint outside the tile is not visible: it gets no Gaussian and no limb.
        inside = ((joints[..., :2] >= 0) & (joints[..., :2] < np.array(tile))).all(-1)
        joints[..., 2] *= inside
        unsure = people.unsure[:, list(order)] if mirrored else people.unsure
        boxes = (augment.move_boxes(b, matrix) for b in (people.boxes, people.ignore, people.bare))
        # The area beyond the tile belongs to another image.
        moved, ignore, bare = (_clipped(b, tile) for b in boxes)
        here = (moved[:, 2:] > 0).all(1) | (joints[..., 2] > 0).any(1) | self.head.single_person
        people = Labels(joints.astype(np.float32)[here], moved[here], unsure[here], _some(ignore), _some(bare))
        return augment.warp(image, matrix, tile), people


def _clipped(boxes: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Clip (N, 4) boxes x, y, w, h to a tile."""
    low = boxes[:, :2].clip(0, tile)
    return np.concatenate([low, (boxes[:, :2] + boxes[:, 2:]).clip(0, tile) - low], 1)


def _some(boxes: np.ndarray) -> np.ndarray:
    return boxes[(boxes[:, 2:] > 0).all(1)]


def _load(opened: KeypointSet, source: Source, root: Path, head: Head[Any], need: bool) -> _Loaded:
    """Load the images that a source selects. If ``need``, leave out images without a person to crop around.

    Raises:
        DatasetError: the data has none of the network's joints, or no image is left.
        MissingFileError: images are missing.
    """
    if not set(opened.skeleton.joints) & set(head.skeleton.joints):
        raise DatasetError(
            f"{opened.name}: none of its joints ({', '.join(opened.skeleton.joints)}) is one of the network's"
            f' ({", ".join(head.skeleton.joints)}); set skeleton = "data" in the recipe'
        )
    skip = set()
    if source.without:
        skip = {p.id for s in ("train", "val") for p in KeypointSet.open(root / source.without, s).records}
    loaded = _Loaded(source, opened.files, [], [], [], [])
    for record in opened.records:
        people = read_people(record.people, opened.skeleton.joints, head)
        labelled = (people.joints[..., 2] > 0).sum(1)
        main = np.flatnonzero((labelled >= source.joints) & are_large(people.boxes, source, record))
        if record.id in skip or (need and not len(main)) or len(loaded.names) == (source.first or -1):
            continue
        loaded.names.append(record.file_name)
        loaded.people.append(people)
        loaded.main.append(main)
        loaded.sizes.append((record.width, record.height))
    if not loaded.names:
        raise DatasetError(f"{opened.name}: no image matches the recipe ({source})")
    if lost := [name for name in loaded.names if name not in opened.files]:
        raise MissingFileError(
            f"{opened.name}: {len(lost)} of its {len(loaded.names)} images are missing, for example"
            f" {', '.join(lost[:3])}; set images to their folder, or remove them from the data set"
        )
    return loaded


def _joint_box(joints: np.ndarray) -> np.ndarray:
    """Return (x, y, w, h) around the labelled joints of (K, 3)."""
    xy = joints[joints[:, 2] > 0, :2]
    if not len(xy):
        xy = np.zeros((1, 2), np.float32)
    return np.concatenate([xy.min(0), xy.max(0) - xy.min(0)])


def collate(items: list[dict[str, Any]]) -> Batch:
    """Stack entries of one shape; entries of different lengths stay lists."""
    together: dict[str, Any] = {name: [item[name] for item in items] for name in items[0]}
    for name in together.keys() - {"boxes", "keypoints", "number"}:
        together[name] = torch.stack(together[name])
    return Batch(together.pop("number"), together.pop("image"), together)


def tiles(rng: np.random.Generator, size: int) -> list[tuple[int, int, int, int]]:
    """Cut a square into two or four tiles (x, y, w, h) at random places."""
    x, y = (int(v) for v in rng.uniform(0.35, 0.65, 2) * size)
    kind = rng.integers(3)
    if kind == 0:
        return [(0, 0, x, size), (x, 0, size - x, size)]
    if kind == 1:
        return [(0, 0, size, y), (0, y, size, size - y)]
    return [(0, 0, x, y), (x, 0, size - x, y), (0, y, x, size - y), (x, y, size - x, size - y)]


@atexit.register
def _end_workers() -> None:
    """Kill the workers before Python waits for them at exit: they would wait for work forever."""
    if WORKERS and threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD"):
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's handler raises an error for each worker
    for worker in WORKERS:
        worker.kill()


def _ignore_signals(_worker: int) -> None:
    """Ignore signals that are sent to all processes; the main process stops the workers.

    Do not call cv2.setNumThreads here: in a forked process it waits for threads of the parent, and hangs.
    """
    signal.set_wakeup_fd(-1)  # the main process's descriptor, which would otherwise receive this process's signals
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)


def prefetched(make: Callable[[Sequence[int]], Any], numbers: Sequence[int], share: int) -> Iterator[Any]:
    """Yield batches in order, each made from ``share`` of the numbers; the last one may be smaller.

    Args:
        make: makes a batch from numbers of samples. Runs in threads: OpenCV and numpy release the GIL while they work.
        numbers: numbers of all samples.
        share: number of samples in a batch.
    """
    cv2.setNumThreads(1)  # leave the cores to the training's threads
    parts = (numbers[first : first + share] for first in range(0, len(numbers), share))
    with ThreadPoolExecutor(THREADS) as pool:
        waiting = [pool.submit(make, part) for _, part in zip(range(AHEAD), parts, strict=False)]
        try:
            while waiting:
                ready = waiting.pop(0)
                for part in parts:
                    waiting.append(pool.submit(make, part))
                    break
                yield ready.result()
        finally:
            for future in waiting:
                future.cancel()
