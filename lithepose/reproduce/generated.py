"""Drawn people: as annotated images, and as maps of a network."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ..heads.heatmaps import heatmaps
from ..heads.labels import reorder_joints
from ..heads.outputs import Maps
from ..heads.pafs import COCO_HEAD, PafHead, part_affinity_fields
from ..skeleton import COCO_17

CELLS = 32  # maps of 256x256 pixels

# A standing person in a box of 1 x 1, in COCO-17 order.
FIGURE = np.array(
    [
        [0.50, 0.08], [0.53, 0.06], [0.47, 0.06], [0.56, 0.08], [0.44, 0.08], [0.64, 0.22], [0.36, 0.22], [0.72, 0.38],
        [0.28, 0.38], [0.74, 0.54], [0.26, 0.54], [0.59, 0.54], [0.41, 0.54], [0.60, 0.74], [0.40, 0.74], [0.61, 0.94],
        [0.39, 0.94],
    ]
)  # fmt: skip


def maps_of(joints: np.ndarray, shape: tuple[int, int] = (CELLS, CELLS)) -> Maps:
    """Make the maps of a perfect network for COCO-17 people (P, 17, 3)."""
    return encoded(reorder_joints(joints.astype(np.float32), COCO_17.joints, COCO_HEAD.skeleton), COCO_HEAD, shape)


def encoded(joints: np.ndarray, head: PafHead, shape: tuple[int, int]) -> Maps:
    """Encode people (P, K, 3) as maps."""
    return Maps.from_arrays(heatmaps(joints, head, *shape), part_affinity_fields(joints, head, *shape))


def people_of(n: int, seed: int, height: int = 46, width: int = 54) -> np.ndarray:
    """Make (n, 17, 3) overlapping people in rows and columns.

    Args:
        n: number of people.
        seed: seed of their joints' positions.
        height: height of the map, in cells of eight pixels.
        width: likewise.
    """
    rng = np.random.default_rng(seed)
    columns = math.ceil(math.sqrt(2 * n * width / height))
    place = np.stack([np.arange(n) % columns, np.arange(n) // columns], 1)
    each = np.array([8 * width / columns, 8 * height / (n // columns + 1)])
    xy = FIGURE * each + (place * each)[:, None] + rng.normal(0, each / 30, (n, 17, 2))
    return np.concatenate([xy, np.full((n, 17, 1), 2.0)], 2)


def stick_figure(rng: np.random.Generator, size: int, people: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw stick figures side by side on an image of noise.

    Args:
        rng: generator.
        size: side of the image, in pixels.
        people: number of people.

    Returns:
        (size, size, 3) uint8 and the (17, 3) joints of each person in pixels.
    """
    image = rng.integers(90, 160, (size, size, 3)).astype(np.uint8)
    found = []
    for i in range(people):
        each = np.array([size / people, size]) * rng.uniform(0.75, 0.95)
        xy = FIGURE * each + (i * size / people, rng.uniform(0, size - each[1])) + rng.normal(0, size / 100, (17, 2))
        for (a, b), colour in zip(COCO_17.edges, COCO_17.edge_colours, strict=True):
            start, end = (xy[k].round().astype(int).tolist() for k in (a, b))
            cv2.line(image, start, end, colour, 3)
        found.append(np.concatenate([xy.clip(0, size - 1), np.full((17, 1), 2.0)], 1))
    return image, found


def write_sticks(folder: Path, train: int = 16, held_back: int = 8, size: int = 160) -> None:
    """Write a data set of stick figures in COCO-keypoint form, unless it exists.

    Args:
        folder: folder for ``train.json``, ``val.json`` and ``images/``.
        train: number of training images, with one or two people each.
        held_back: number of validation images.
        size: side of the images, in pixels.
    """
    if (folder / "val.json").is_file():
        return
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for split, count in (("train", train), ("val", held_back)):
        rng = np.random.default_rng(len(split))
        images, annotations = list[dict[str, Any]](), list[dict[str, Any]]()
        for i in range(count):
            image, people = stick_figure(rng, size, 1 + i % 2)
            name = f"{split}-{i}.png"
            cv2.imwrite(str(folder / "images" / name), image[..., ::-1])
            images.append({"id": i, "file_name": name, "width": size, "height": size})
            annotations += [annotation(joints, i, len(annotations) + k + 1) for k, joints in enumerate(people)]
        write_annotations(folder / f"{split}.json", images, annotations)


def annotation(joints: np.ndarray, image: int, number: int) -> dict[str, Any]:
    """Make a COCO annotation of (17, 3) joints. A joint is labelled if its last value is above 0."""
    seen = joints[joints[:, 2] > 0, :2]
    low, high = seen.min(0), seen.max(0)
    return {
        "id": number,
        "image_id": image,
        "category_id": 1,
        "keypoints": joints.round(1).ravel().tolist(),
        "num_keypoints": len(seen),
        "bbox": [*low.tolist(), *(high - low).tolist()],
        "area": float(np.prod(high - low)),
        "iscrowd": 0,
    }


def write_annotations(path: Path, images: list[dict[str, Any]], annotations: list[dict[str, Any]]) -> None:
    """Write COCO-17 annotations as JSON."""
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.joints), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    path.write_text(json.dumps(content), encoding="utf-8")
