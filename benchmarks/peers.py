"""Speed and accuracy of lithepose's models and of other projects' networks in your own files, in one run.

    python benchmarks/peers.py coco-val.tar --out results/peers-CPU.csv --plot docs/images/speed.png
    python benchmarks/peers.py coco-val.tar --peers yolo11n-pose.onnx rtmpose-t.onnx --out TABLE.csv

Measures OKS-AP on a data set of COCO's 17 joints, and the time of a whole call, from pixels in memory to people, on one
image of 640x480 pixels with two people. All models take turns in every round. The table contains medians, and medians
of the rounds' ratios to the first row. Nothing is downloaded: peers are .onnx files of YOLO-pose (any version) or
RTMPose (with boxes of lithepose's person detector), or a .tflite file of MoveNet if LiteRT is installed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import tyro
from peer_models import Find, open_peer
from stages import two_people

import lithepose
from lithepose.data.coco import KeypointSet
from lithepose.data.formats import open_dataset
from lithepose.errors import ConfigError, LitheposeError
from lithepose.evaluation.metrics import oks
from lithepose.inference.benchmark import SETTLED
from lithepose.timing import about, cpu, median, ratio, take_turns, write_table

Row = dict[str, Any]

# name, model, size of the input (0: the model's default), runtime and precision
OURS = (
    ("lithe", "lithe", 0, "onnx", "fp32"),
    ("lithe int8", "lithe", 0, "onnx", "int8"),
    ("lithe, OpenVINO", "lithe", 0, "openvino", "fp32"),
    ("lithe int8, OpenVINO", "lithe", 0, "openvino", "int8"),
    ("lithe at 448", "lithe", 448, "onnx", "fp32"),
    ("lithe_paf at 384", "lithe_paf", 384, "onnx", "fp32"),
    ("lithe_paf", "lithe_paf", 0, "onnx", "fp32"),
)


def found_by(find: Find, dataset: KeypointSet) -> list[dict[str, Any]]:
    """Return COCO results of a peer."""
    results = []
    for record in dataset.records:
        results += find(dataset.files.image(record.file_name)).to_coco(record.id)
    return results


def measure(data: Path, peers: list[Path], threads: int, rounds: int, limit: int, names: tuple[str, ...]) -> list[Row]:
    """Return the rows of the table, lithepose's models first."""
    dataset = open_dataset(data)
    dataset = replace(dataset, records=dataset.records[:limit])
    if unknown := set(names) - {name for name, *_ in OURS}:
        raise ConfigError(f"--ours {', '.join(sorted(unknown))}: choose from {', '.join(name for name, *_ in OURS)}")
    image = cv2.copyMakeBorder(two_people(), 0, 53, 0, 0, cv2.BORDER_CONSTANT, value=(127, 127, 127))
    calls: dict[str, Callable[[], object]] = {}
    scores: dict[str, dict[str, float]] = {}
    for name, model, size, runtime, precision in OURS:
        if names and name not in names:
            continue
        try:
            own = lithepose.load(model, size=size, threads=threads, runtime=runtime, precision=precision)
        except LitheposeError as error:
            print(f"skipped: {name}: {error}")
            continue
        calls[name] = lambda own=own: own(image)
        scores[name] = lithepose.evaluate(own, dataset).scores
    for path in peers:
        find = open_peer(path, threads)
        calls[path.name] = lambda find=find: find(image)
        scores[path.name] = oks(dataset.records, found_by(find, dataset), dataset.skeleton)
    for call in calls.values():
        for _ in range(SETTLED):
            call()
    times, first = take_turns(calls, rounds), next(iter(calls))
    return [
        {
            "model": name,
            "AP": round(scores[name]["AP"], 4),
            "AP50": round(scores[name]["AP50"], 4),
            "median_ms": round(median(times, name), 3),
            "times_first": round(ratio(times, name, first), 3),
            "threads": threads,
            "rounds": rounds,
            "data": f"{data.name}, {len(dataset.records)} images",
            "machine": f"{cpu()}, {about()}",
        }
        for name in calls
    ]


def draw(rows: list[Row], out: Path) -> None:
    """Plot AP over milliseconds, one point per model."""
    import matplotlib as mpl

    mpl.use("agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.2), layout="constrained")
    for i, row in enumerate(sorted(rows, key=lambda row: row["median_ms"])):
        ours = row["model"].startswith("lithe")
        axes.plot(row["median_ms"], row["AP"], "o", color="#0b6e99" if ours else "#b0562b")
        # Four heights in turn, below and above, because neighbours in time often have similar accuracy.
        offset = (4, (-16, 8, -28, 20)[i % 4])
        axes.annotate(row["model"], (row["median_ms"], row["AP"]), offset, textcoords="offset points", fontsize=9)
    axes.set_xlabel(f"milliseconds a call, 640x480 pixels, an image of two people, {rows[0]['threads']} threads")
    axes.set_ylabel(f"OKS-AP ({rows[0]['data']})")
    axes.set_xlim(0, 1.3 * max(row["median_ms"] for row in rows))
    axes.set_ylim(0, 1.2 * max(row["AP"] for row in rows) or 1)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=150)
    plt.close(figure)


def main(
    data: Path,
    /,
    out: Path,
    plot: Path | None = None,
    peers: tuple[Path, ...] = (),
    ours: tuple[str, ...] = (),
    threads: int = 2,
    rounds: int = 20,
    limit: int = 10**9,
) -> None:
    """Measure, write the table and plot it.

    Args:
        data: annotated images with COCO's joints.
        out: CSV file to write.
        plot: image to write.
        peers: .onnx and .tflite files of other projects.
        ours: rows of lithepose's models to measure; all by default.
        threads: threads of each network.
        rounds: number of rounds, for medians.
        limit: largest number of images for the scores.
    """
    rows = measure(data, list(peers), threads, rounds, limit, ours)
    write_table(out, rows)
    if plot:
        draw(rows, plot)
    for row in rows:
        print(f"{row['model']:>28}  AP {row['AP']:.3f}  {row['median_ms']:7.2f} ms  {row['times_first']:.2f}")


if __name__ == "__main__":
    tyro.cli(main)
