"""Counts of every network and variant with a count in a paper, and of the baselines, next to the papers' counts.

    python scripts/count_tables.py

Writes ``research/results/complexity.csv``, and ``lithepose/weights/networks.csv`` with the networks as in their papers,
which ``lithepose models`` prints without torch. Counts do not depend on the machine. ``paper_parameters`` and
``paper_gmacs`` are as printed; ``paper_counts`` names the column with the paper's convention.
"""

from __future__ import annotations

import csv
from pathlib import Path

from torch import nn

from lithepose.analysis.complexity import Complexity, measure, measure_parts
from lithepose.networks import NETWORKS as NAMES
from lithepose.networks import build
from lithepose.networks.binary_paf import MultiScaleModule, binarized
from lithepose.networks.context_cpm import make_context
from lithepose.networks.keypoint_rcnn import KeypointHead, KeypointRcnnConfig

COLUMNS = (
    "paper network input parameters conv_weights bn_statistics macs binary_weights binary_macs mb_fp32 mb_fp16"
    " mb_packed paper_parameters paper_gmacs paper_counts parameters_off gmacs_off note"
).split()
WEIGHTS, ALL = "conv_weights", "parameters"
# paper, network, options, height x width, printed parameters, printed GMACs, column of the paper's convention, note
NETWORKS = [
    ("huang2019mln", "openpose", {}, (368, 432), 52298816, 159.6, WEIGHTS, "exact"),
    ("choi2018binarized", "openpose", {}, (368, 656), None, None, "", "654 wide in the paper, which 8 does not divide"),
    ("huang2019mln", "multilevel", {}, (368, 432), 21278912, 82.5, WEIGHTS, "exact"),
    (
        "huang2019mln",
        "multilevel",
        {"detect": 4},
        (368, 432),
        21278912,
        82.5,
        WEIGHTS,
        "exact; the other wiring that fits",
    ),
    (
        "huang2019mln",
        "multilevel",
        {"transfer": 4, "refine": 5},
        (368, 432),
        21278912,
        82.5,
        WEIGHTS,
        "exact; not 7 blocks",
    ),
    (
        "huang2019mln",
        "multilevel",
        {"transfer": 4},
        (368, 432),
        21278912,
        82.5,
        WEIGHTS,
        "literal reading; excluded by counts",
    ),
    ("choi2018binarized", "binary_paf", {}, (368, 656), None, None, "", "no counts in the paper"),
    ("choi2018binarized", "binary_paf", {"layers": "float"}, (368, 656), None, None, "", "no counts in the paper"),
    ("choi2018binarized", "binary_paf", {"layers": "binary7"}, (368, 656), None, None, "", "no counts in the paper"),
    ("osokin2019context", "context_cpm", {}, (256, 256), None, 21.3, "", "U-shaped, six stages"),
    *(
        ("osokin2019context", "context_cpm", {"context": context, "stages": stages}, (256, 256), None, None, "", "")
        for context, stages in (
            ("none", 2),
            ("none", 6),
            ("unet", 2),
            ("aspp", 2),
            ("aspp", 6),
            ("pyramid", 2),
            ("pyramid", 6),
        )
    ),
    (
        "osokin2019context",
        "context_cpm",
        {"stages": 2, "stride": 4},
        (256, 256),
        None,
        None,
        "",
        "64x64 maps, for MPII",
    ),
    ("osokin2019context", "context_cpm", {"stride": 4}, (256, 256), None, None, "", "64x64 maps, for MPII"),
    (
        "debnath2018split",
        "joint_regression",
        {},
        (224, 224),
        4300000,
        None,
        ALL,
        "the paper counts the 1001-class MobileNet",
    ),
    ("debnath2018split", "joint_regression", {"pool": False}, (224, 224), None, None, "", ""),
    ("debnath2018split", "joint_regression", {"split": True}, (224, 224), 3300000, None, ALL, "as printed"),
    (
        "debnath2018split",
        "joint_regression",
        {"split": True, "own_depthwise": False},
        (224, 224),
        3300000,
        None,
        ALL,
        "other form",
    ),
    (
        "debnath2018split",
        "joint_regression",
        {"split": True, "pool": False, "own_depthwise": False},
        (224, 224),
        3300000,
        None,
        ALL,
        "equally possible form",
    ),
    ("debnath2018split", "split_stream", {}, (224, 224), 2300000, None, ALL, "as printed"),
    *(
        (
            "debnath2018split",
            "split_stream",
            {"skip14": skip14, "skip28": skip28, "own_depthwise": own},
            (224, 224),
            2300000,
            None,
            ALL,
            "other wiring",
        )
        for skip14 in ("add", "concat")
        for skip28 in ("add", "concat")
        for own in (True, False)
        if (skip14, skip28, own) != ("add", "concat", True)
    ),
    *(
        ("hoang2020rcnn", "keypoint_rcnn", options, (320, 320), None, None, "", "multiply-adds an image, without heads")
        for options in ({}, {"conv": "vanilla"}, {"conv": "depthwise"})
    ),
    ("osokin2018openpose", "lightweight_openpose", {}, (256, 456), None, None, "", ""),
    ("ours", "lithe", {}, (256, 192), None, None, "", "a person"),
    ("ours", "lithe_paf", {}, (256, 384), None, None, "", ""),
    ("ours", "person_detector", {}, (256, 320), None, None, "", ""),
]


def _seven_by_seven(c_in: int) -> nn.Module:
    return nn.Conv2d(c_in, 128, 7, padding=3, bias=False)


def modules() -> list[tuple[str, str, nn.Module, tuple[int, ...], float | None, float | None, str, str]]:
    """Parts that a paper counts separately: paper, name, module, input, printed parameters and GMACs, column, note."""
    heads = [("vanilla", 1), ("depthwise", 1), ("expanded", 2), ("expanded", 3), ("expanded", 4)]
    return [
        (
            "choi2018binarized",
            "7x7 convolution 128",
            _seven_by_seven(128),
            (128, 46, 82),
            None,
            None,
            "",
            "",
        ),
        (
            "choi2018binarized",
            "7x7 convolution 185",
            _seven_by_seven(185),
            (185, 46, 82),
            None,
            None,
            "",
            "",
        ),
        (
            "choi2018binarized",
            "multi-scale module 128",
            MultiScaleModule(128, 128, binarized),
            (128, 46, 82),
            None,
            None,
            "",
            "",
        ),
        (
            "choi2018binarized",
            "multi-scale module 185",
            MultiScaleModule(185, 128, binarized),
            (185, 46, 82),
            None,
            None,
            "",
            "",
        ),
        (
            "osokin2019context",
            "U-shaped module",
            make_context("unet", 145)[0],
            (145, 32, 32),
            6.44e6,
            2.53,
            ALL,
            "paper counts more",
        ),
        (
            "osokin2019context",
            "ASPP module",
            make_context("aspp", 145)[0],
            (145, 32, 32),
            9.52e6,
            9.75,
            WEIGHTS,
            "inferred",
        ),
        (
            "osokin2019context",
            "pyramid module",
            make_context("pyramid", 145)[0],
            (145, 32, 32),
            0.2e6,
            0.07,
            ALL,
            "inferred",
        ),
        *(
            (
                "hoang2020rcnn",
                f"keypoint head {conv} e={e}",
                KeypointHead(KeypointRcnnConfig(conv=conv, expansion=e)),
                (256, 14, 14),
                None,
                None,
                "",
                "a box",
            )
            for conv, e in heads
        ),
    ]


def main() -> None:
    """Count everything and write the table."""
    rows: list[list[object]] = []

    def add(paper: str, name: str, size: str, c: Complexity, printed: tuple, column: str, note: str) -> None:
        parameters, gmacs = printed
        off = f"{getattr(c, column) / parameters - 1:+.4f}" if parameters else ""
        off_gmacs = f"{c.macs / 1e9 / gmacs - 1:+.4f}" if gmacs else ""
        megabytes = [f"{value:.2f}" for value in c.megabytes.values()]
        counts = c.parameters, c.conv_weights, c.bn_statistics, c.macs, c.binary_weights, c.binary_macs
        paper_says = parameters or "", gmacs or "", column, off, off_gmacs
        rows.append([paper, name, size, *counts, *megabytes, *paper_says, note])

    for paper, network, options, (height, width), parameters, gmacs, column, note in NETWORKS:
        name = network + "".join(f" {key}={value}" for key, value in options.items())
        for part, c in measure_parts(build(network, **options), height, width).items():
            label = name if part == "whole" else f"{name}: {part}"
            add(paper, label, f"{height}x{width}", c, (parameters, gmacs), column, note)
    for paper, name, module, shape, parameters, gmacs, column, note in modules():
        add(paper, name, "x".join(map(str, shape)), measure(module, *shape), (parameters, gmacs), column, note)
    root = Path(__file__).parent.parent
    _write(root / "research" / "results" / "complexity.csv", rows)
    if missing := [name for name in NAMES if not any(row[1] == name for row in rows)]:
        raise SystemExit(f"{', '.join(missing)}: not in NETWORKS of this script; add a line for each")
    defaults = [next(row for row in rows if row[1] == name) for name in NAMES]
    _write(root / "lithepose" / "weights" / "networks.csv", defaults)


def _write(path: Path, rows: list[list[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows)
    print(f"{len(rows)} rows: {path}")


if __name__ == "__main__":
    main()
