"""Time of one whole call, from an image in memory to poses, by stage, with a reference on the same machine.

    python benchmarks/stages.py --out results/stages-CPU.csv

The reference is an fp32 ONNX network with one billion multiply-adds of 3x3 convolutions, run by the same ONNX Runtime
with the same settings. All parts take turns in every round, so that a slow machine affects all of them. The table
contains medians; a ratio is the median of the rounds' ratios. The image has 640x480 pixels. The detector runs on it,
and the pose network on 1, 2, 5 and 20 boxes. Writes the table to ``--out``.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import tyro
from onnx import TensorProto, helper, numpy_helper

import lithepose
from lithepose.inference.detector import PersonDetector
from lithepose.inference.estimator import BATCH
from lithepose.media.image import read_image
from lithepose.runtime.onnx import cores, open_session
from lithepose.timing import about, median, ratio, take_turns, write_table

ROUNDS = 40
PEOPLE = 1, 2, 5, 20
HEIGHT, WIDTH = 256, 384


def yardstick(path: Path) -> int:
    """Write the network of 3x3 convolutions.

    Returns:
        its number of multiply-adds.
    """
    rng, nodes, weights, macs = np.random.default_rng(0), [], [], 0
    height, width, name = HEIGHT, WIDTH, "image"
    for i, (c_in, c_out, stride) in enumerate([(3, 16, 2), (16, 32, 2), (32, 128, 2), *[(128, 128, 1)] * 4]):
        height, width = height // stride, width // stride
        macs += height * width * c_in * c_out * 9
        weight = rng.normal(0, (2 / (9 * c_in)) ** 0.5, (c_out, c_in, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(weight, f"w{i}"))
        nodes.append(
            helper.make_node("Conv", [name, f"w{i}"], [f"c{i}"], strides=[stride] * 2, pads=[1] * 4, name=f"conv{i}")
        )
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        name = f"r{i}"
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, HEIGHT, WIDTH])
    out = helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 128, height, width])
    model = helper.make_model(
        helper.make_graph(nodes, "yardstick", [image], [out], weights),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return macs


def two_people() -> np.ndarray:
    """Return an image of 640x480 pixels with two people."""
    samples = Path(lithepose.__file__).parent / "samples"
    astronaut, camera = (read_image(samples / f"{n}.jpg") for n in ("astronaut", "camera"))
    both = np.hstack([astronaut, camera[:, 128:384]])  # 768x512
    return np.ascontiguousarray(cv2.resize(both, (640, 427), interpolation=cv2.INTER_AREA)[:, :640])


def boxes_of(count: int) -> np.ndarray:
    """Return (count, 4) person-sized boxes at fixed positions."""
    rng = np.random.default_rng(0)
    corner, size = rng.uniform((0, 0), (480, 260), (count, 2)), rng.uniform((60, 120), (160, 220), (count, 2))
    return np.concatenate([corner, size], 1).astype(np.float32)


def measure(threads: int, folder: Path) -> list[dict[str, object]]:
    """Return the rows of the table for one number of threads."""
    image = cv2.copyMakeBorder(two_people(), 0, 53, 0, 0, cv2.BORDER_CONSTANT, value=(127, 127, 127))
    assert image.shape == (480, 640, 3)
    model, paf = lithepose.load(threads=threads), lithepose.Predictor("lithe_paf", threads=threads)
    assert isinstance(model, lithepose.TopDown)
    detector = model.finder
    assert isinstance(detector, PersonDetector)
    pixels, back = detector.prepare(image)
    (found,) = detector.runtime(pixels[None])
    macs = yardstick(folder / "yardstick.onnx")
    plain = open_session(folder / "yardstick.onnx", threads)
    blank = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    parts: dict[str, Callable[[], object]] = {
        "yardstick": lambda: plain.run(None, {"image": blank}),
        "letterbox": lambda: detector.prepare(image),
        "detector": lambda: detector.runtime(pixels[None]),
        "boxes": lambda: detector.finish(found, back),
        "whole call, lithe_paf": lambda: paf(image),
    }
    for count in PEOPLE:
        boxes, scores = boxes_of(count), np.ones(count, np.float32)
        crops = [model.predictor.person_crop(image, box) for box in boxes.tolist()]
        pixels_of = [np.stack([c for c, _ in crops[first : first + BATCH]]) for first in range(0, count, BATCH)]
        outputs = [output for batch in pixels_of for output in model.predictor.runtime(batch)]

        def cut(boxes: np.ndarray = boxes) -> object:
            return [model.predictor.person_crop(image, box) for box in boxes.tolist()]

        def network(batches: list[np.ndarray] = pixels_of) -> object:
            return [model.predictor.runtime(batch) for batch in batches]

        def decode(outputs: list[Any] = outputs, crops: list[Any] = crops) -> object:
            return [model.predictor.decode(o, c[1]) for o, c in zip(outputs, crops, strict=True)]

        def whole(boxes: np.ndarray = boxes, scores: np.ndarray = scores) -> object:
            return model.find(image), model.on_boxes(image, boxes, scores)

        parts |= {f"crops, {count}": cut, f"pose network, {count}": network, f"decode, {count}": decode}
        parts[f"whole call, {count}"] = whole
    times = take_turns(parts, ROUNDS)
    return [
        {
            "threads": threads,
            "part": name,
            "median_ms": round(median(times, name), 3),
            "p90_ms": round(statistics.quantiles(spent, n=10)[-1], 3),
            "times_yardstick": round(ratio(times, name, "yardstick"), 3),
            "rounds": ROUNDS,
            "yardstick_macs": macs,
            "cores": cores(),
            "versions": about(),
        }
        for name, spent in times.items()
    ]


def main(out: Path) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for threads in (1, 2) for row in measure(threads, Path(folder))]
    write_table(out, rows)
    for row in rows:
        print(*(f"{row[k]!s:>24}" for k in ("threads", "part", "median_ms", "p90_ms", "times_yardstick")))


if __name__ == "__main__":
    tyro.cli(main)
