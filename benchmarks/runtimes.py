"""Time of a whole call with two people in every runtime and precision, beside a yardstick; and two models at once.

    python benchmarks/runtimes.py --out results/runtimes-CPU.csv

One image of 640x480 pixels with two people: the person detector, crops, the pose network on two boxes, decoding. The
yardstick is that of benchmarks/stages.py: an fp32 network of one billion multiply-adds of plain 3x3 convolutions in
ONNX Runtime. All rows of one number of threads take turns in every round; the table holds medians, and medians of the
rounds' ratios. In its turn a row is called once uncounted and then for 20 ms, as with one image after another: a single
call after other networks' would have to fetch its weights from memory again. Two at once: two models, each with its
own threads, in two threads of Python; 2 times as long as one is what turns would take. int8 are the embedded files, or
those named by --int8.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

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

LEAST = 20.0  # milliseconds of a turn
KINDS = ("onnx", "fp32"), ("onnx", "int8"), ("openvino", "fp32"), ("openvino", "bf16"), ("openvino", "int8")


def opened(runtime: str, precision: str, threads: int, int8: tuple[str, str]) -> lithepose.TopDown:
    """The default model in one runtime and precision."""
    names = int8 if precision == "int8" else ("lithe", "person_detector")
    model = lithepose.load(names[0], detector=names[1], threads=threads, runtime=runtime, precision=precision)
    assert isinstance(model, lithepose.TopDown)
    return model


def call_of(model: lithepose.TopDown, image: np.ndarray) -> Callable[[], object]:
    """A whole call with two people, whatever the detector finds; settled."""
    boxes, scores = boxes_of(2), np.ones(2, np.float32)

    def call() -> object:
        return model.find(image), model.on_boxes(image, boxes, scores)

    for _ in range(SETTLED):
        call()
    return call


def at_once(calls: list[Callable[[], object]]) -> Callable[[], object]:
    """Calls in a thread each, until the last has ended."""

    def together() -> None:
        workers = [threading.Thread(target=call) for call in calls]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

    return together


def measure(threads: int, rounds: int, int8: tuple[str, str], folder: Path) -> list[dict[str, object]]:
    """Rows of the table for one number of threads."""
    image = cv2.copyMakeBorder(two_people(), 0, 53, 0, 0, cv2.BORDER_CONSTANT, value=(127, 127, 127))
    macs = yardstick(folder / "yardstick.onnx")
    plain = open_session(folder / "yardstick.onnx", threads)
    blank = np.random.default_rng(0).normal(size=(1, 3, HEIGHT, WIDTH)).astype(np.float32)
    parts: dict[str, Callable[[], object]] = {"yardstick": lambda: plain.run(None, {"image": blank})}
    versions = {"yardstick": "ONNX Runtime"}
    for runtime, precision in KINDS:
        name = f"{runtime} {precision}"
        try:
            one, two = (opened(runtime, precision, threads, int8) for _ in range(2))
        except LitheposeError as error:  # not on this machine
            print(f"left out: {name}: {error}")
            continue
        first, second = call_of(one, image), call_of(two, image)
        parts |= {name: first, f"{name}, two at once": at_once([first, second])}
        versions |= dict.fromkeys((name, f"{name}, two at once"), runs_in(one.predictor.runtime))
    times = take_turns(parts, rounds, LEAST)
    base = "onnx fp32"
    return [
        {
            "threads": threads,
            "part": name,
            "median_ms": round(median(times, name), 3),
            "times_yardstick": round(ratio(times, name, "yardstick"), 3),
            "times_onnx_fp32": round(ratio(times, name, base), 3),
            "times_one": round(ratio(times, name, name.removesuffix(", two at once")), 3),
            "runs_in": versions[name],
            "rounds": rounds,
            "yardstick_macs": macs,
            "cores": cores(),
            "machine": f"{cpu()}, {about()}",
        }
        for name in parts
    ]


def main(out: Path, rounds: int = 40, int8: tuple[str, str] = ("lithe", "person_detector")) -> None:
    """Measure and write the table.

    Args:
        out: csv to write.
        rounds: of which medians are taken.
        int8: pose model and person detector that run in int8, names or files.
    """
    with tempfile.TemporaryDirectory() as folder:
        rows = [row for threads in (2, 1) for row in measure(threads, rounds, int8, Path(folder))]
    write_table(out, rows)
    shown = "threads", "part", "median_ms", "times_yardstick", "times_onnx_fp32", "times_one"
    print(*(f"{column:>28}" for column in shown))
    for row in rows:
        print(*(f"{row[column]!s:>28}" for column in shown))


if __name__ == "__main__":
    tyro.cli(main)
