"""Reports of a run: tables, images of predictions, a plot of the losses."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from ..analysis.plot import lines
from ..drawing import draw
from ..errors import MissingExtraError
from ..geometry import GREY
from ..heads.base import DecodeConfig
from ..heads.boxes import BoxHead
from ..inference.detector import PersonDetector
from ..inference.predictor import Predictor
from ..networks import Network
from ..runtime.torch import TorchRuntime, describe
from .crops import CropSamples
from .detection import DetectionSamples
from .samples import PoseSamples

GRID = 4, 2  # columns and rows of images


class Log:
    """``log.jsonl``, ``log.csv`` and optional TensorBoard events.

    Args:
        run: folder of the run.
        tensorboard: write to ``run/tensorboard`` as well.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, run: Path, tensorboard: bool = False) -> None:
        self.run, self.board = run, None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError as error:
                raise MissingExtraError("--tensorboard needs tensorboard: pip install tensorboard") from error
            self.board = SummaryWriter(str(run / "tensorboard"))
        self.file = open(run / "log.jsonl", "a", encoding="utf-8")  # noqa: SIM115  # closed by close

    def write(self, line: dict[str, Any]) -> None:
        self.file.write(json.dumps(line) + "\n")
        self.file.flush()
        for name, value in line.items():
            if self.board and name not in ("step", "seconds"):
                self.board.add_scalar(name, value, line["step"])

    def close(self) -> None:
        """Close the files, after writing the table and the plot once more."""
        self.file.close()
        if self.board:
            self.board.close()
        self.show()

    def show(self) -> None:
        """Write the log as a table and as a plot."""
        rows = read_log(self.run)
        if not rows:
            return
        columns = list(dict.fromkeys(name for row in rows for name in row))
        with open(self.run / "log.csv", "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
        plot_losses({"": rows}, self.run / "losses.png")


def read_log(run: Path) -> list[dict[str, Any]]:
    """Read the lines of ``log.jsonl``."""
    return [json.loads(line) for line in (run / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def plot_losses(runs: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Plot the total loss of each run, on training and validation samples, over its steps."""
    x, curves = {}, {}
    for run, rows in runs.items():
        for column, label in (("total", "training"), ("validation", "validation")):
            points = [(row["step"], row[column]) for row in rows if column in row]
            if points:
                name = f"{run} {label}".strip()
                x[name], curves[name] = zip(*points, strict=True)
    lines(path, x, curves, "step", "loss", log=True)


def image_grid(name: str, net: Network, images: torch.Tensor, path: Path) -> None:
    """Draw the predictions for the first images of a batch in one image.

    Args:
        name: name of the network.
        net: network in evaluation mode.
        images: (N, 3, H, W) uint8.
        path: output image.
    """
    across, down = GRID
    pixels = images[: across * down].permute(0, 2, 3, 1).cpu().numpy()
    height, width = pixels.shape[1:3]
    runtime = TorchRuntime(net, describe(name, net, height))
    canvas = np.full((down * height, across * width, 3), GREY, np.uint8)
    for i, image in enumerate(pixels):
        y, x = divmod(i, across)
        canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = _drawn(runtime, image)
    path.parent.mkdir(exist_ok=True)
    cv2.imwrite(str(path), canvas[..., ::-1])


def sample_images(samples: PoseSamples | CropSamples | DetectionSamples, count: int) -> list[np.ndarray]:
    """Return the first training samples as images, (H, W, 3) uint8 RGB, without annotations.

    Args:
        samples: training samples.
        count: number of images.
    """
    batches = samples.batches(0, count, count)
    images = [image for batch in batches for image in batch.images]
    return [np.ascontiguousarray(image.permute(1, 2, 0).numpy()) for image in images]


def _drawn(runtime: TorchRuntime, image: np.ndarray) -> np.ndarray:
    """Draw the people found in an image, with low thresholds."""
    if isinstance(runtime.info.head, BoxHead):
        canvas = image.copy()
        for box in PersonDetector(runtime, score=0.1)(image).xyxy.round().astype(int).tolist():
            cv2.rectangle(canvas, box[:2], box[2:], (255, 200, 0), 2)
        return canvas
    # Early in training few scores reach the thresholds of a trained network.
    return draw(image, Predictor(runtime, config=DecodeConfig(peak=0.1, joints=1))(image))
