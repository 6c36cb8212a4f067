"""What it gains and costs to start binary_paf's refinement from the maps of the frame before; an experiment.

    python benchmarks/warm_stages.py

choi2018binarized's future work, to the letter: the first stage is left out, and the frame before stands for it, moved
as the image moved (exactly, as no tracker knows). The backbone still runs, since only it has seen the new frame. An
image with noise pans by some pixels a frame; cold and warm take turns. Likeness as in ``warm_start.py``; ``noise`` is
that of cold runs on two draws of it. Writes ``results/warm-stages-CPU.csv``.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import cv2
import machine
import numpy as np
import onnx
import torch
from torch import Tensor, nn
from warm_start import SAMPLES, likeness, noisy

from lithepose.binary.runtime import PackedRuntime, one_thread
from lithepose.binary.stages import refine
from lithepose.export.onnx import open_weights, tidy, trace
from lithepose.heads.outputs import TOP, Maps
from lithepose.heads.pafs import PafHead
from lithepose.image import read_image
from lithepose.inference.models import WEIGHTS
from lithepose.inference.predictor import Predictor
from lithepose.networks import Scaled
from lithepose.runtime.onnx import open_session

FRAMES, STRIDE = 40, 8


class FloatPart(nn.Module):
    """The packed network's backbone with a second output: the features without the first stage."""

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net, self.scale = net, Scaled(net)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        features = self.net.cpm(self.net.backbone(self.scale(image.permute(0, 3, 1, 2)))[-1])
        heatmaps, pafs = self.net.stages[0](features)
        both = torch.cat([pafs, heatmaps, features], 1)
        return both.permute(0, 2, 3, 1), features.permute(0, 2, 3, 1)


def moved(maps: np.ndarray, pixels: float) -> np.ndarray:
    """(1, H, W, C) maps of an image that has moved to the left."""
    matrix = np.array([[1, 0, -pixels / STRIDE], [0, 1, 0]])
    parts = [maps[0, ..., c : c + 4] for c in range(0, maps.shape[3], 4)]  # OpenCV warps four channels at once
    size = maps.shape[2], maps.shape[1]
    warped = [cv2.warpAffine(part, matrix, size, borderMode=cv2.BORDER_REPLICATE) for part in parts]
    return np.concatenate([part.reshape(*maps.shape[1:3], -1) for part in warped], 2)[None]


def measure(model: Predictor, session: Any, speed: int, stages: int) -> dict[str, object]:
    runtime, rng = model.runtime, np.random.default_rng(0)
    assert isinstance(runtime, PackedRuntime)
    head = model.head
    assert isinstance(head, PafHead)
    pafs, joints = head.channels[1], len(model.head.skeleton)
    sample = cv2.resize(read_image(SAMPLES / "astronaut.jpg"), (800, 800))

    def run(output: str, image: np.ndarray, before: np.ndarray | None, which: list) -> np.ndarray:
        pixels, _ = model.letterbox(image)
        (x,) = session.run([output], {"image": pixels[None]})
        x = np.asarray(x) if before is None else np.concatenate([before, x], 3)
        with one_thread:
            return refine(x, which, runtime._workers)

    def people(maps: np.ndarray, image: np.ndarray) -> Any:
        one = np.ascontiguousarray(maps.transpose(0, 3, 1, 2))[0]
        return model.decode(Maps.from_arrays(one[pafs : pafs + joints], one[:pafs], TOP), model.letterbox(image)[1])

    seconds, alike, shaken, last = [0.0, 0.0], [], [], None
    for frame in range(FRAMES):
        image = sample[100:640, speed * frame : speed * frame + 540]
        shot = noisy(image, rng)
        began = time.perf_counter()
        cold = run("stage", shot, None, runtime.stages)
        between = time.perf_counter()
        if last is not None:
            warm = run("features", shot, moved(last, speed * 368 / 540), runtime.stages[-stages:])
            seconds[0] += between - began
            seconds[1] += time.perf_counter() - between
            alike += likeness(people(cold, shot), people(warm, shot))
            again = noisy(image, rng)
            shaken += likeness(people(cold, shot), people(run("stage", again, None, runtime.stages), again))
            last = warm
        else:
            last = cold
    return {
        "pixels_a_frame": speed,
        "refinement_stages": stages,
        "cold_ms": f"{1000 * seconds[0] / (FRAMES - 1):.1f}",
        "warm_ms": f"{1000 * seconds[1] / (FRAMES - 1):.1f}",
        "times_faster": f"{seconds[0] / seconds[1]:.2f}",
        "people": len(alike),
        "likeness": f"{np.mean(alike):.3f}",
        "noise": f"{np.mean(shaken):.3f}",
        "cpu": machine.cpu(),
    }


def main() -> None:
    net, info = open_weights(WEIGHTS / "binary_paf-latent.safetensors", size=368)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "front.onnx"
        trace(FloatPart(net.eval()).eval(), ["stage", "features"], info.multiple, path)
        graph = onnx.load(path)
        tidy(graph, False)
        onnx.save(graph, path)
        session = open_session(path, 2)
    model = Predictor("binary_paf", threads=2)
    rows = [measure(model, session, speed, stages) for speed in (0, 2, 6) for stages in (2, 1)]
    machine.write(machine.table("warm-stages"), rows)
    for row in rows:
        print(*row.values(), sep="  ")


if __name__ == "__main__":
    main()
