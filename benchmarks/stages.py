"""Time of one whole call, photo in memory to poses, stage by stage, beside a yardstick on the same machine.

    python benchmarks/stages.py

The yardstick is an fp32 ONNX network of one billion multiply-adds made of plain 3x3 convolutions, run by the same
ONNX Runtime with the same settings. All parts take turns in every round, so that whatever slows the machine slows all
of them; the table holds medians, and the ratio is the median of the rounds' ratios. Writes ``results/stages-CPU.csv``.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import machine
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import lithepose
from lithepose.benchmark import about
from lithepose.image import read_image
from lithepose.runtime.onnx import cores, open_session

ROUNDS, WARMUP = 300, 20
HEIGHT, WIDTH = 256, 384


def yardstick(path: Path) -> int:
    """Write the network of plain 3x3 convolutions.

    Returns:
        its multiply-adds.
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


def measure(threads: int, folder: Path) -> list[dict[str, object]]:
    """Rows of the table for one number of threads."""
    samples = Path(lithepose.__file__).parent / "samples"
    astronaut, camera = (read_image(samples / f"{n}.jpg") for n in ("astronaut", "camera"))
    photo = np.ascontiguousarray(np.hstack([astronaut, camera[:, 128:384]]))  # 768x512, two people
    model = lithepose.Predictor("lithe_paf", size=WIDTH, threads=threads)
    pixels, back = model.fit(photo)
    assert pixels.shape[:2] == (HEIGHT, WIDTH), pixels.shape
    maps = model.runtime(pixels[None])[0]
    macs = yardstick(folder / "yardstick.onnx")
    plain = open_session(folder / "yardstick.onnx", threads)
    blank = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    parts: dict[str, Callable[[], object]] = {
        "whole call": lambda: model(photo),
        "fit": lambda: model.fit(photo),
        "network": lambda: model.runtime(pixels[None]),
        "decode": lambda: model.decode(maps, back),
        "yardstick": lambda: plain.run(None, {"image": blank}),
    }
    times: dict[str, list[float]] = {name: [] for name in parts}
    for turn in range(WARMUP + ROUNDS):
        for name, part in parts.items():
            began = time.perf_counter()
            part()
            if turn >= WARMUP:
                times[name].append((time.perf_counter() - began) * 1000)
    rows = []
    for name, spent in times.items():
        ratios = [a / b for a, b in zip(spent, times["yardstick"], strict=True)]
        rows.append(
            {
                "threads": threads,
                "part": name,
                "median_ms": round(statistics.median(spent), 3),
                "p90_ms": round(statistics.quantiles(spent, n=10)[-1], 3),
                "times_yardstick": round(statistics.median(ratios), 3),
                "input": f"{HEIGHT}x{WIDTH}",
                "people": len(model(photo)),
                "rounds": ROUNDS,
                "yardstick_macs": macs,
                "cores": cores(),
                "versions": about(),
            }
        )
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for threads in (1, 2) for row in measure(threads, Path(folder))]
    path = machine.table("stages")
    machine.write(path, rows)
    for row in rows:
        print(*(f"{row[k]!s:>12}" for k in ("threads", "part", "median_ms", "p90_ms", "times_yardstick")))
    print(path)


if __name__ == "__main__":
    main()
