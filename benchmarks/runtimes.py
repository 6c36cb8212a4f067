"""Time of a whole call with two people in every runtime and precision, with a reference; and of two models at once.

    python benchmarks/runtimes.py --out results/runtimes-CPU.csv

A call on one image of 640x480 pixels with two people runs the person detector, crops, the pose network on two boxes,
and decoding. The reference is that of benchmarks/stages.py: an fp32 network with one billion multiply-adds of 3x3
convolutions in ONNX Runtime. All rows of one number of threads take turns in every round. The table contains medians,
and medians of the rounds' ratios. In each turn, a row is first called once without timing, and then for 20 ms, as for a
series of images; otherwise a call would have to load its weights from memory again. Two at once: two models, each with
its own threads, in two Python threads; 2 times the time of one model would mean no gain over running them in sequence.
They are measured in separate rounds, because they slow down the others. int8 uses the embedded files, or those of
--int8.

Everything is measured in several processes, one after the other, and the table contains the medians over them: the time
of int8 differs between processes by up to a third, whatever the number of rounds. The columns from and to are the range
of the ratio to fp32 in ONNX Runtime.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tyro
from stages import HEIGHT, WIDTH, boxes_of, two_people, yardstick

import lithepose
from lithepose.errors import LitheposeError
from lithepose.inference.benchmark import SETTLED
from lithepose.runtime.base import about as runs_in
from lithepose.runtime.onnx import cores, open_session
from lithepose.timing import about, cpu, median, ratio, take_turns, write_table

LEAST = 20.0  # shortest time of a turn, in milliseconds
TWO = ", two at once"
MEASURED = "median_ms", "times_yardstick", "times_onnx_fp32", "times_one"
KINDS = ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")


def opened(runtime: str, precision: str, threads: int, int8: tuple[str, str]) -> lithepose.TopDown:
    """Open the default model in one runtime and precision."""
    names = int8 if precision == "int8" else ("lithe", "person_detector")
    model = lithepose.load(names[0], detector=names[1], threads=threads, runtime=runtime, precision=precision)
    assert isinstance(model, lithepose.TopDown)
    return model


def call_of(model: lithepose.TopDown, image: np.ndarray) -> Callable[[], object]:
    """Return a whole call with two people, whatever the detector finds, after a warm-up."""
    boxes, scores = boxes_of(2), np.ones(2, np.float32)

    def call() -> object:
        return model.find(image), model.on_boxes(image, boxes, scores)

    for _ in range(SETTLED):
        call()
    return call


def at_once(calls: list[Callable[[], object]]) -> Callable[[], object]:
    """Run calls in one thread each, until the last has ended."""

    def together() -> None:
        workers = [threading.Thread(target=call) for call in calls]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return together


def measure(threads: int, rounds: int, int8: tuple[str, str], folder: Path) -> list[dict[str, object]]:
    """Return the rows of the table for one number of threads."""
    image = cv2.copyMakeBorder(two_people(), 0, 53, 0, 0, cv2.BORDER_CONSTANT, value=(127, 127, 127))
    macs = yardstick(folder / "yardstick.onnx")
    plain = open_session(folder / "yardstick.onnx", threads)
    blank = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    parts: dict[str, Callable[[], object]] = {"yardstick": lambda: plain.run(None, {"image": blank})}
    versions = {"yardstick": "ONNX Runtime"}
    for runtime, precision in KINDS:
        name = f"{runtime} {precision}"
        try:
            model = opened(runtime, precision, threads, int8)
        except LitheposeError as error:  # not available on this machine
            print(f"skipped: {name}: {error}")
            continue
        parts[name], versions[name] = call_of(model, image), runs_in(model.predictor.runtime)
    alone = take_turns(parts, rounds, LEAST)
    single = [name for name in parts if name != "yardstick"]
    for name in single:
        runtime, precision = name.split()
        second = call_of(opened(runtime, precision, threads, int8), image)
        parts[name + TWO], versions[name + TWO] = at_once([parts[name], second]), versions[name]
    together = take_turns(parts, rounds, LEAST)
    rows = list[dict[str, object]]()
    for name in ("yardstick", *(part for one in single for part in (one, one + TWO))):
        times = together if name.endswith(TWO) else alone
        rows.append(
            {
                "threads": threads,
                "part": name,
                "median_ms": round(median(times, name), 3),
                "times_yardstick": round(ratio(times, name, "yardstick"), 3),
                "times_onnx_fp32": round(ratio(times, name, "onnx fp32"), 3),
                "times_one": round(ratio(times, name, name.removesuffix(TWO)), 3),
                "runs_in": versions[name],
                "rounds": rounds,
                "yardstick_macs": macs,
                "cores": cores(),
                "machine": f"{cpu()}, {about()}",
            }
        )
    return rows


def combined(rows: list[dict[str, Any]]) -> dict[str, object]:
    """Return one row for the same row of several processes: medians, and the range of the ratio to fp32."""
    middle = {key: round(statistics.median(row[key] for row in rows), 3) for key in MEASURED}
    ratios = [row["times_onnx_fp32"] for row in rows]
    return rows[0] | middle | {"from": min(ratios), "to": max(ratios), "processes": len(rows)}


def main(out: Path, rounds: int = 40, processes: int = 3, int8: tuple[str, str] = ("lithe", "person_detector")) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
        rounds: number of rounds in a process, for medians.
        processes: number of processes that measure everything, one after the other.
        int8: pose model and person detector in int8, as names or files.
    """
    rows = list[dict[str, object]]()
    with tempfile.TemporaryDirectory() as folder:
        for threads in (2, 1):
            runs = []
            for _ in range(processes):
                with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                    runs.append(pool.submit(measure, threads, rounds, int8, Path(folder)).result())
            rows += [combined(list(same)) for same in zip(*runs, strict=True)]
    write_table(out, rows)
    shown = "threads", "part", "median_ms", "times_yardstick", "times_onnx_fp32", "from", "to", "times_one"
    print(*(f"{column:>24}" for column in shown))
    for row in rows:
        print(*(f"{row[column]!s:>24}" for column in shown))


if __name__ == "__main__":
    tyro.cli(main)
