from __future__ import annotations

import json
import os
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each; before anything reads it
    os.environ["OMP_NUM_THREADS"] = "1"

from jaxtyping import install_import_hook

# Every call of these is checked against its shape annotations; before anything imports them.
CHECKED = "geometry media.image heads runtime poses.person evaluation.metrics inference.detector inference.top_down"
install_import_hook([f"lithepose.{name}" for name in CHECKED.split()], "shape_checks.check_shapes")

import cv2
import numpy as np
import pytest
from crowds import FIGURE
from hypothesis import settings

import lithepose
from lithepose.media.image import read_image
from lithepose.skeleton import COCO_17
from lithepose.writers.video import VideoWriter

# The same examples in every run.
settings.register_profile("fixed", derandomize=True, deadline=None, database=None)
settings.load_profile("fixed")

SAMPLES = Path(lithepose.__file__).parent / "samples"


@pytest.fixture(autouse=True)
def reference_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime is what ``auto`` takes in the tests: results do not depend on what is installed."""
    monkeypatch.setattr("lithepose.inference.models.prefers_openvino", lambda: False)


@pytest.fixture(scope="session")
def astronaut() -> np.ndarray:
    return read_image(SAMPLES / "astronaut.jpg")


@pytest.fixture(scope="session")
def model() -> lithepose.Predictor:
    return lithepose.Predictor("lithe_paf", threads=2)


def figure(x: float, y: float, height: float) -> np.ndarray:
    """(17, 3) joints of a standing person of a given height with the upper left corner at (x, y)."""
    return np.concatenate([FIGURE * height + (x, y), np.full((17, 1), 2.0)], 1)


@pytest.fixture
def stick_images(tmp_path: Path) -> Path:
    """A data set in COCO form: eight images of stick figures on noise, one crowd and one unlabelled person."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "sticks"
    (folder / "images").mkdir(parents=True)
    images, annotations = [], []
    for i in range(8):
        image = rng.integers(90, 160, (160, 200, 3)).astype(np.uint8)
        for x in (10, 100)[: 1 + i % 2]:
            joints = figure(x, 10, 130)
            for a, b in COCO_17.edges:
                start, end = joints[a, :2].round().astype(int), joints[b, :2].round().astype(int)
                cv2.line(image, start.tolist(), end.tolist(), (255, 255, 255), 3)
            low, high = joints[:, :2].min(0), joints[:, :2].max(0)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": i,
                    "category_id": 1,
                    "keypoints": joints.round(1).ravel().tolist(),
                    "num_keypoints": 17,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float(np.prod(high - low)),
                    "iscrowd": 0,
                }
            )
        images.append({"id": i, "file_name": f"{i}.png", "width": 200, "height": 160})
        cv2.imwrite(str(folder / "images" / f"{i}.png"), image)
    nothing = {"category_id": 1, "keypoints": [0] * 51, "num_keypoints": 0, "bbox": [150, 0, 40, 40], "area": 1600}
    annotations.append({"id": 100, "image_id": 0, "iscrowd": 1, **nothing})
    annotations.append({"id": 101, "image_id": 2, "iscrowd": 0, **nothing})
    category = {"id": 1, "name": "person", "keypoints": list(COCO_17.joints), "skeleton": []}
    content = {"images": images, "annotations": annotations, "categories": [category]}
    for split in ("train", "val"):
        (folder / f"{split}.json").write_text(json.dumps(content))
    return folder


def write_video(path: Path, count: int, size: tuple[int, int] = (64, 48), rate: float = 10.0) -> None:
    """Frame i is evenly grey with 20 + 10 i, from 20 again after every twenty."""
    with VideoWriter(path, rate) as video:
        for i in range(count):
            video.write(np.full((size[1], size[0], 3), 20 + 10 * (i % 20), np.uint8), i / rate)
