"""The worked example of docs/own-data.md, on generated images: its recipe and its commands, as they stand there."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import load_file

from lithepose.training.config import Recipe
from lithepose.training.trainer import train

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "own-data.md").read_text(encoding="utf-8")
COLOURS = ((255, 255, 255), (40, 40, 255), (255, 60, 40), (40, 220, 255), (255, 40, 220))  # BGR, a joint each


def block(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", GUIDE, re.S)[1]


def star(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A core and four limbs, each with a dot of its own colour, on noise."""
    image = rng.integers(60, 110, (120, 160, 3)).astype(np.uint8)
    core = rng.uniform((50, 45), (110, 75))
    spread = rng.uniform(0.8, 1.1, (4, 1)) * 34
    angles = np.radians([-45, -135, 45, 135]) + rng.normal(0, 0.15, 4)
    tips = core + spread * np.stack([np.cos(angles), np.sin(angles)], 1)
    joints = np.concatenate([core[None], tips])
    for tip in tips:
        cv2.line(image, core.astype(int).tolist(), tip.astype(int).tolist(), (150, 150, 150), 3)
    for joint, colour in zip(joints, COLOURS, strict=True):
        cv2.circle(image, joint.astype(int).tolist(), 5, colour, -1)
    return image, joints


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    example, rng = json.loads(block("json")), np.random.default_rng(0)
    for split, count in (("train", 60), ("val", 20)):
        images, annotations = [], []
        for i in range(count):
            image, joints = star(rng)
            name = f"{split}-{i}.png"
            (tmp_path / "mine").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / "mine" / name), image)
            low, high = joints.min(0) - 5, joints.max(0) + 5
            images.append({"id": i, "file_name": name, "width": 160, "height": 120})
            annotations.append(
                example["annotations"][0]
                | {
                    "id": i + 1,
                    "image_id": i,
                    "bbox": [*low.tolist(), *(high - low).tolist()],
                    "area": float(np.prod(high - low)),
                    "keypoints": np.concatenate([joints, np.full((5, 1), 2)], 1).ravel().tolist(),
                }
            )
        content = {"images": images, "annotations": annotations, "categories": example["categories"]}
        (tmp_path / "mine" / f"{split}.json").write_text(json.dumps(content))
    (tmp_path / "mine.toml").write_text(block("toml"))
    return tmp_path


def test_the_worked_example(mine):
    told = {}
    for line in block("sh").strip().splitlines():
        command = [sys.executable, "-m", *shlex.split(line)]
        done = subprocess.run(command, cwd=mine, capture_output=True, text=True, timeout=400, check=False)
        assert done.returncode == 0, (line, done.stderr)
        told[command[3]] = done.stdout
    ap = float(re.search(r"AP\s*│\s*([\d.]+)", told["evaluate"])[1])
    assert ap > 0.5
    rows = [json.loads(line) for line in (mine / "drawn" / "poses.jsonl").read_text().splitlines()]
    assert len(rows) == 80
    found = [person for row in rows for person in row["people"]]
    assert len(found) > 60
    assert len(list((mine / "drawn").glob("*.png"))) + len(list((mine / "drawn").glob("*.jpg"))) == 80
    image = cv2.imread(str(next((mine / "drawn").glob("val-0.*"))))
    assert np.abs(image.astype(int) - cv2.imread(str(mine / "mine" / "val-0.png"))).sum() > 1000
    predict = [sys.executable, "-m", "lithepose", "predict", "mine/val-0.png", "--model", "mine.onnx"]
    assert subprocess.run([*predict, "--flip"], cwd=mine, capture_output=True, timeout=100, check=False).returncode == 0
    done = subprocess.run([*predict, "--format", "coco"], cwd=mine, capture_output=True, timeout=100, check=False)
    assert done.returncode == 2
    assert b"none of mine.onnx's joints" in done.stderr


def test_the_default_model_is_trained_further(stick_images):
    folder = stick_images.parent
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    text = re.findall(r"```toml\n(.*?)```", GUIDE, re.S)[1].replace('"mine"', '"sticks"')
    (folder / "people.toml").write_text(text.replace("lithepose/weights", (ROOT / "lithepose" / "weights").as_posix()))
    recipe = replace(Recipe.read(folder / "people.toml"), steps=2, batch=4, crop=(64, 64), precision="fp32")
    trained = load_file(train(recipe, folder, folder / "run", quiet=True))
    embedded = load_file(ROOT / "lithepose" / "weights" / "lithe.safetensors")
    assert trained.keys() == embedded.keys()
    changed = [name for name in trained if not torch.equal(trained[name], embedded[name])]
    assert changed
    for name in changed:
        assert torch.allclose(trained[name].float(), embedded[name].float(), atol=0.2), name
