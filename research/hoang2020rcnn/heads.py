"""hoang2020rcnn's table III on other data: keypoint_rcnn with its three key-point heads, trained alike.

    for NAME in keypoint-rcnn-vanilla keypoint-rcnn-depthwise keypoint-rcnn; do
        lithepose train research/hoang2020rcnn/recipes/$NAME-mini.toml --data DATA
    done
    python research/hoang2020rcnn/heads.py --data DATA

A row a head: its parameters and multiply-adds a box, and the detector's parameters; COCO's ten figures on validation
images; frames a second of the network in torch on one and on two threads, over the same images in turn, since its time
depends on how many people it proposes. Heads that have not been trained are left out. Writes
the table to ``--out`` and an image of the losses.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path

import torch
import tyro

from lithepose.analysis.complexity import measure_parts
from lithepose.data.coco import KeypointSet
from lithepose.data.formats import open_dataset
from lithepose.evaluation.evaluate import evaluate
from lithepose.exporters.onnx import open_weights
from lithepose.inference.predictor import Predictor
from lithepose.runtime.torch import TorchRuntime
from lithepose.timing import cpu, median, ratio, take_turns, write_table
from lithepose.training.report import plot_losses, read_log

ROOT = Path(__file__).parents[2]
HEADS = {
    "vanilla": "keypoint-rcnn-vanilla-mini",
    "depthwise": "keypoint-rcnn-depthwise-mini",
    "expanded depthwise": "keypoint-rcnn-mini",
}
IMAGES_PER_STEP = 2  # that are timed


def main(
    data: Path,
    out: Path,
    runs: Path = ROOT / "runs",
    images: Path = ROOT / "docs" / "images",
) -> None:
    """Measure all heads that have been trained.

    Args:
        data: folder that holds ``data/coco-full.tar``.
        runs: folder of the runs.
        out: table.
        images: folder of the image.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    models = {head: runs / name / "weights.safetensors" for head, name in HEADS.items()}
    models = {head: path for head, path in models.items() if path.exists()}
    if "vanilla" not in models:
        raise SystemExit(f"{runs}: no {HEADS['vanilla']}, which the others are compared with; train it first")
    records = open_dataset(data / "data" / "coco-full.tar", "val")
    rows, runtimes = dict[str, dict[str, object]](), dict[str, TorchRuntime]()
    size = 0
    for head, path in models.items():
        net, info = open_weights(path)
        runtimes[head] = TorchRuntime(net.eval(), info)
        parts = measure_parts(copy.deepcopy(net).to("meta"), info.size, info.size)
        key = next(part for name, part in parts.items() if "keypoint head" in name)
        size, last = info.size, read_log(path.parent)[-1]
        scores = evaluate(Predictor(runtimes[head]), records, metric="oks").scores
        rows[head] = {
            "head": head,
            "head_parameters": key.parameters,
            "head_gmacs_a_box": f"{key.macs / 1e9:.4f}",
            "parameters": parts["whole"].parameters,
            "steps": last["step"],
            "loss": f"{last['total']:.3f}",
            "validation_loss": f"{last['validation']:.3f}",
            **{name: f"{score:.4f}" for name, score in scores.items()},
        }
    _time(runtimes, rows, records)
    table = [row | {"input": size, "cpu": cpu()} for row in rows.values()]
    write_table(out, table)
    plot_losses({head: read_log(path.parent) for head, path in models.items()}, images / "keypoint-rcnn-losses.png")
    for row in table:
        print(*(f"{k} {v}" for k, v in row.items()), sep="  ")


def _time(runtimes: dict[str, TorchRuntime], rows: dict[str, dict[str, object]], records: KeypointSet) -> None:
    letterbox = Predictor(next(iter(runtimes.values()))).letterbox
    images = [letterbox(records.files.image(record.file_name))[0][None] for record in records.records[:IMAGES_PER_STEP]]
    parts: dict[str, Callable[[], object]] = {
        head: lambda r=r: [r(image) for image in images] for head, r in runtimes.items()
    }
    for threads in (1, 2):
        torch.set_num_threads(threads)
        times = take_turns(parts, 3)
        for head in runtimes:
            rows[head] |= {
                f"fps_{threads}": f"{1000 * IMAGES_PER_STEP / median(times, head):.2f}",
                f"time_of_vanilla_{threads}": f"{ratio(times, head, 'vanilla'):.3f}",
            }


if __name__ == "__main__":
    tyro.cli(main)
