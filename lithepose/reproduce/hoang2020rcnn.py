"""hoang2020rcnn: kinds of convolution, keypoint heads, accuracy and speed of the detector."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import nn

from ..analysis.complexity import measure, measure_parts
from ..analysis.plot import bars, grid
from ..drawing import DrawStyle, draw
from ..heads.base import DecodeConfig
from ..networks.keypoint_rcnn import KeypointHead, KeypointRcnnConfig, head_layer
from ..timing import Row, median, ratio, take_turns
from .huang2019mln import two_people
from .trained import Form, conditions, figure, loss_row, scores, trained
from .work import Result, Work

PAPER = "COCO 2017, SGD at 2e-2, 90,000 iterations, divided by ten at 60,000 and 80,000, 320x320, two Titan RTX"
FORMS = {
    "vanilla": Form("keypoint-rcnn-vanilla", "keypoint-rcnn-vanilla-mini"),
    "depthwise": Form("keypoint-rcnn-depthwise", "keypoint-rcnn-depthwise-mini"),
    "expanded depthwise": Form("keypoint-rcnn", "keypoint-rcnn-mini"),
}
KEYS = "AP", "AP50", "AP75", "AP medium", "AP large", "AR", "AR50", "AR75", "AR medium", "AR large"
TABLE = {  # as printed, in the order of KEYS, and frames per second
    "vanilla": ((46.1, 73.4, 47.9, 37.1, 59.9, 54.8, 81.5, 56.9, 44.1, 69.5), 11.9),
    "depthwise": ((37.8, 67.3, 36.4, 28.9, 50.9, 46.4, 75.9, 46.2, 35.6, 61.4), 25.2),
    "expanded depthwise": ((38.5, 67.7, 37.9, 29.7, 51.6, 47.0, 76.0, 47.1, 36.0, 62.2), 25.0),
}
WIDTH, CELLS = 512, 14


def convolutions(work: Work) -> Result:
    """Table I: cost of one layer of 512 channels on 14x14 cells, by the paper's formula and as counted."""
    rows, formula = list[Row](), {}
    kinds = [("vanilla", 1), ("depthwise", 1), ("expanded", 2), ("expanded", 3), ("expanded", 4)]
    for kind, e in kinds:
        layer = head_layer(kind, WIDTH, WIDTH, e)
        counted = measure(nn.Sequential(layer), WIDTH, CELLS, CELLS)
        cost = CELLS**2 * (9 * WIDTH**2 if kind == "vanilla" else e * WIDTH * (9 + WIDTH))
        formula[f"{kind} e={e}"] = cost / 1e6
        rows.append(
            {
                "layer": kind,
                "filters a channel": e,
                "parameters": counted.parameters,
                "MMACs": f"{counted.macs / 1e6:.2f}",
                "paper MMACs, by its formula": f"{cost / 1e6:.2f}",
                "times fewer than vanilla": f"{9 * WIDTH**2 * CELLS**2 / counted.macs:.2f}",
            }
        )
    ours = {f"{r['layer']} e={r['filters a channel']}": float(str(r["MMACs"])) for r in rows}
    return Result(
        rows,
        lambda path: bars(path, {"counted": ours, "formula": formula}, "MMACs"),
        (
            "the paper gives formulas without numbers: h w k² d² and h w e d (k² + d); here k = 3, d = 512, 14x14",
            "counts do not depend on training or machine, so a mini run equals a full run",
        ),
    )


def heads(work: Work) -> Result:
    """Table II: the keypoint head with eight layers of each kind."""
    rows, gmacs = list[Row](), {}
    for kind, e in [("vanilla", 1), ("depthwise", 1), ("expanded", 2), ("expanded", 3), ("expanded", 4)]:
        c = measure(KeypointHead(KeypointRcnnConfig(conv=kind, expansion=e)), 256, CELLS, CELLS)
        gmacs[f"{kind} e={e}"] = c.macs / 1e9
        rows.append(
            {
                "head": kind,
                "filters a channel": e,
                "parameters": c.parameters,
                "GMACs a box": f"{c.macs / 1e9:.3f}",
                "GMACs of 100 boxes": f"{c.macs / 1e7:.1f}",
                "paper": "no counts",
            }
        )
    return Result(
        rows,
        lambda path: bars(path, {"a box": gmacs}, "GMACs"),
        (
            "the paper states neither depth, width nor number of filters; here 8 layers of 512 as in Mask R-CNN",
            "counts do not depend on training or machine, so a mini run equals a full run",
        ),
    )


def accuracy(work: Work) -> Result:
    """Table III: COCO's ten figures and frames per second of the three heads, trained alike."""
    runs, rows = trained(work, FORMS), dict[str, Row]()
    predictors = {name: run.predictor() for name, run in runs.items()}
    for name, run in runs.items():
        net, info = run.net()
        parts = measure_parts(net.to("meta"), info.size, info.size)
        key = next(c for part, c in parts.items() if "keypoint head" in part)
        done, (printed, _) = scores(run, predictors[name]), TABLE[name]
        row: Row = {"head": name} | loss_row(run) | {"head parameters": key.parameters}
        row["GMACs a box"] = f"{key.macs / 1e9:.4f}"
        for column, value in zip(KEYS, printed, strict=True):
            row |= {f"{column} %": figure(done, column), f"paper {column}": value}
        rows[name] = row
    images = next(iter(runs.values())).images()
    shown = [predictors["vanilla"].letterbox(images.files.image(r.file_name))[0][None] for r in images.records[:2]]
    spent = take_turns(
        {name: lambda p=p: [p.runtime(x) for x in shown] for name, p in predictors.items()}, 2 if work.mini else 10
    )
    for name, row in rows.items():
        row["frames a second"] = f"{1000 * len(shown) / median(spent, name):.2f}"
        row["time of vanilla"] = f"{ratio(spent, name, 'vanilla'):.3f}"
        row["paper time of vanilla"] = f"{11.9 / TABLE[name][1]:.3f}"
    series = {
        "ours": {name: float(str(row["time of vanilla"])) for name, row in rows.items()},
        "paper": {name: 11.9 / fps for name, (_, fps) in TABLE.items()},
    }
    remarks = "speed: torch on a CPU, on the same images in turn; the time depends on the number of proposed people"
    return Result(
        list(rows.values()),
        lambda path: bars(path, series, "time of vanilla"),
        [*conditions(work, runs, PAPER), remarks],
    )


def people(work: Work) -> Result:
    """Figure 2: detections."""
    runs = trained(work, {"expanded depthwise": FORMS["expanded depthwise"]})
    image = two_people()
    side = image.shape[0]
    predictor = runs["expanded depthwise"].predictor(config=DecodeConfig(peak=0.1, joints=1))
    halves = [np.ascontiguousarray(image[:, i * side : (i + 1) * side]) for i in range(2)]
    found = [predictor(half) for half in halves]
    rows: list[Row] = [
        {"image": name, "people found of one": len(poses), "paper": "an image"}
        for name, poses in zip(("astronaut", "camera"), found, strict=True)
    ]

    def drawn(path: Path) -> None:
        style = DrawStyle(colour="person", boxes=True)
        panels = [(f"{len(p)} found", draw(half, p, style=style)) for half, p in zip(halves, found, strict=True)]
        grid(path, [panels])

    remarks = "the package's two sample images; all detections with a score of at least 0.1"
    return Result(rows, drawn, [*conditions(work, runs, PAPER), remarks])
