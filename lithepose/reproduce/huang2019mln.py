"""huang2019mln: accuracy, complexity, features of two branches, coloured people, and the time of grouping."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ..analysis.features import MULTILEVEL_LAYERS, features, sheet
from ..analysis.plot import bars, grid, lines
from ..drawing import DrawStyle, draw
from ..geometry import letterbox
from ..heads.base import DecodeConfig
from ..heads.grouping import group, score_limbs
from ..heads.heatmaps import peaks
from ..heads.pafs import COCO_HEAD
from ..inference.predictor import Predictor
from ..media.image import read_image
from ..networks import build
from ..resources import SAMPLE
from ..timing import Row, median, take_turns
from .generated import maps_of, people_of
from .trained import Form, conditions, count, figure, scores, times, trained
from .work import Result, Work

PAPER = "COCO 2017, 118,287 images, SGD at 6e-5, batch 28, rotation, scale and flip; test-dev; Caffe on a Tesla P40"
FORMS = {
    "OpenPose": Form("openpose", "openpose-mini"),
    "multi-level network": Form("multilevel", "multilevel-mini"),
}
ACCURACY = {  # as printed
    "OpenPose": {"AP": 58.4, "AP50": 81.5, "AP75": 62.6, "AP medium": 54.4, "AP large": 65.1},
    "multi-level network": {"AP": 58.4, "AP50": 82.1, "AP75": 62.6, "AP medium": 53.7, "AP large": 65.8},
}
NETWORKS = {  # network; conv weights, GMACs, MB and frames per second as printed
    "OpenPose": ("openpose", (52298816, 159.6, 209.3, 20.4)),
    "multi-level network": ("multilevel", (21278912, 82.5, 85.2, 42.2)),
}
HEIGHT, WIDTH = 368, 432
STATED = {2: 0.2, 10: 0.6}  # milliseconds of grouping by number of people


def accuracy(work: Work) -> Result:
    """Table 1: average precision of both networks, trained alike."""
    runs, rows = trained(work, FORMS), list[Row]()
    for name, run in runs.items():
        done = scores(run)
        row: Row = {"network": name, "steps": run.log()[-1]["step"]}
        for key, printed in ACCURACY[name].items():
            row |= {f"{key} %": figure(done, key) or "no people of this size", f"paper {key}": printed}
        rows.append(row)
    series = {
        "ours": {f"{r['network']}, {key}": _number(r[f"{key} %"]) for r in rows for key in ("AP", "AP50")},
        "paper": {f"{name}, {key}": ACCURACY[name][key] for name in runs for key in ("AP", "AP50")},
    }
    return Result(rows, lambda path: bars(path, series, "per cent"), conditions(work, runs, PAPER))


def _number(text: object) -> float:
    try:
        return float(str(text))
    except ValueError:
        return 0.0


def complexity(work: Work) -> Result:
    """Table 2: parameters, multiply-adds, size and speed."""
    size, rounds = ((HEIGHT // 2, WIDTH // 2), 3) if work.mini else ((HEIGHT, WIDTH), 20)
    nets = {name: build(network) for name, (network, _) in NETWORKS.items()}
    spent = times(nets, *size, rounds)
    rows = list[Row]()
    for name, (_, (weights, gmacs, megabytes, fps)) in NETWORKS.items():
        c = count(nets[name], HEIGHT, WIDTH)
        ms, of_first = spent[name]
        rows.append(
            {
                "network": name,
                "conv weights": c.conv_weights,
                "paper parameters": weights,
                "GMACs": f"{c.macs / 1e9:.1f}",
                "paper GFLOPs": gmacs,
                "MB": f"{c.megabytes['fp32']:.1f}",
                "paper MB": megabytes,
                "ms": f"{ms:.0f}",
                "time of OpenPose": f"{of_first:.3f}",
                "paper time of OpenPose": f"{20.4 / fps:.3f}",
            }
        )
    series = {
        "ours": {str(r["network"]): float(str(r["GMACs"])) for r in rows},
        "paper": {str(r["network"]): float(str(r["paper GFLOPs"])) for r in rows},
    }
    return Result(
        rows,
        lambda path: bars(path, series, f"GMACs at {HEIGHT}x{WIDTH}"),
        (
            "the paper prints multiply-adds as FLOPs and convolution weights without biases as parameters",
            f"time: torch on a CPU at {size[0]}x{size[1]}, {rounds} rounds in turn, random weights; the paper: full"
            f" frames at {HEIGHT}x{WIDTH} on a Tesla P40; compare ratios",
        ),
    )


def branches(work: Work) -> Result:
    """Figure 1: outputs of Conv-1 and Conv-4 of both branches for an image."""
    runs = trained(work, {"multi-level network": FORMS["multi-level network"]})
    net, _ = runs["multi-level network"].net()
    image, _ = letterbox(read_image(SAMPLE), 192 if work.mini else HEIGHT, net.multiple)
    titles = ("joints, Conv-1", "joints, Conv-4", "limbs, Conv-1", "limbs, Conv-4")
    found = dict(zip(titles, features(net, image, MULTILEVEL_LAYERS), strict=True))
    rows: list[Row] = [
        {
            "layer": title,
            "module": one.layer,
            "channels": len(one.maps),
            "share above zero": f"{one.active:.3f}",
            "channels that answer": int((one.maps.std((1, 2)) > 1e-6).sum()),
            "paper": "an image",
        }
        for title, one in found.items()
    ]

    def drawn(path: Path) -> None:
        sheets = [(title, sheet(one.maps, one.strongest(16))) for title, one in found.items()]
        grid(path, [[("image", image), *sheets]])

    remarks = (
        "the sixteen channels with the largest deviation, each scaled to its own range; the image is the package's"
        " sample"
    )
    return Result(rows, drawn, [*conditions(work, runs, PAPER), remarks])


def two_people() -> np.ndarray:
    """Return the two sample images side by side, (H, W, 3) uint8."""
    names = SAMPLE.name, "camera.jpg"
    parts = [letterbox(read_image(SAMPLE.with_name(name)), 384, 384)[0] for name in names]
    return np.concatenate(parts, 1)


def people(work: Work) -> Result:
    """Figure 3: the people found, in one colour each."""
    runs = trained(work, {"multi-level network": FORMS["multi-level network"]})
    run, image = runs["multi-level network"], two_people()
    found = {
        "this training": run.predictor(size=256 if work.mini else WIDTH)(image),
        "lithe_paf, embedded": Predictor("lithe_paf")(image),
    }
    rows: list[Row] = [
        {"network": name, "people found of two": len(poses), "paper": "an image"} for name, poses in found.items()
    ]
    style = DrawStyle(colour="person")
    panels = [[(name, draw(image, poses, style=style)) for name, poses in found.items()]]
    remarks = "the package's two sample images side by side; lithe_paf shows the result of more training"
    return Result(rows, lambda path: grid(path, panels), [*conditions(work, runs, PAPER), remarks])


def grouping(work: Work) -> Result:
    """Section 4: milliseconds of grouping, 0.2 for two people and 0.6 for ten."""
    counts = (1, 2, 5, 10, 20) if work.mini else tuple(range(1, 21))
    config, rows = DecodeConfig(), list[Row]()
    head, rounds = COCO_HEAD, 50 if work.mini else 300
    for n in counts:
        maps = maps_of(people_of(n, 0), (HEIGHT // 8, WIDTH // 8))
        joint, cells, _ = peaks(maps, head, config.peak)
        limbs = score_limbs(maps, head, joint, cells, config)
        parts: dict[str, Callable[[], object]] = {
            "grouping": lambda j=joint, scored=limbs: group(j, *scored, head),
            "limbs": lambda m=maps, j=joint, c=cells: score_limbs(m, head, j, c, config),
            "peaks": lambda m=maps: peaks(m, head, config.peak),
            "all": lambda m=maps: head.decode(m, config),
        }
        spent = take_turns(parts, rounds)
        found = len(head.decode(maps, config)[0])
        row: Row = {"people": n, "found": found}
        row |= {f"{part} ms": f"{median(spent, part):.3f}" for part in parts}
        rows.append(row | {"paper grouping ms": STATED.get(n, "")})
    series = {part: [float(str(row[f"{part} ms"])) for row in rows] for part in ("grouping", "limbs", "peaks", "all")}
    return Result(
        rows,
        lambda path: lines(path, list(counts), series, "people", "ms"),
        (
            "the paper: C++ on its images; here numpy on one thread, on maps of generated people (46x54 cells)",
            f"medians of {rounds} rounds in turn; the paper's number is for grouping only, without peaks",
        ),
    )
