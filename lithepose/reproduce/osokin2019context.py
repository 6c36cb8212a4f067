"""osokin2019context: masking, context modules, receptive fields, accuracy by stage, and a profile of time."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import torch

from ..analysis.complexity import measure
from ..analysis.plot import bars, grid
from ..analysis.profile import by_kind, profile
from ..analysis.receptive_field import calibrate, covered, draw_field, receptive_field
from ..geometry import letterbox
from ..media.image import read_image
from ..networks import build
from ..networks.context_cpm import make_context
from ..resources import SAMPLE
from ..timing import Row
from ..training.augment import AugmentConfig
from ..training.config import Source
from ..training.report import sample_images
from ..training.samples import PoseSamples
from .generated import annotation, write_annotations
from .trained import Form, Run, conditions, figure, first_stages, loss_row, scores, times, trained
from .work import Result, Work

PAPER = (
    "LIP, 30,462 images, Adam at 4e-5, divided by ten twice on a plateau, 256x256, up to 100 epochs; PCKh on the"
    " validation split"
)
NAME, NONE = "context-cpm", "context-cpm-none-mini"
MASKS = {
    "no masking": {"mask_body": 0.0, "mask_joints": 0.0},
    "keypoint masking": {"mask_body": 0.0, "mask_joints": 0.5},
    "body masking": {"mask_body": 0.5, "mask_joints": 0.0},
}
MASKING = dict(zip(MASKS, (82.06, 81.96, 82.39), strict=True))  # PCKh as printed
CONTEXTS = {
    "no context": Form(NAME, NONE, {"context": "none"}),
    "ASPP": Form(NAME, "context-cpm-aspp-mini", {"context": "aspp"}),
    "pyramid": Form(NAME, "context-cpm-pyramid-mini", {"context": "pyramid"}),
    "U-shaped": Form(NAME, "context-cpm-mini"),
}
CONTEXT = dict(zip(CONTEXTS, (82.4, 83.5, 83.2, 84.0), strict=True))
MODULES = {"U-shaped": ("unet", 6.44, 2.53), "ASPP": ("aspp", 9.52, 9.75), "pyramid": ("pyramid", 0.2, 0.07)}


def _rows(runs: Mapping[str, Run], printed: Mapping[str, float], column: str) -> list[Row]:
    rows = list[Row]()
    for name, run in runs.items():
        done = scores(run)
        metric = next(iter(done.scores))
        found = {f"{metric} %": figure(done, metric), "AUC %": figure(done, "AUC")}
        rows.append({column: name} | loss_row(run) | found | {"paper PCKh %": printed.get(name, "")})
    return rows


def _beside(rows: list[Row], column: str) -> dict[str, dict[str, float]]:
    metric = next(key for key in rows[0] if key.startswith("PCK"))
    ours = {str(row[column]): float(str(row[metric])) for row in rows if row[metric] != ""}
    paper = {str(row[column]): float(str(row["paper PCKh %"])) for row in rows if row["paper PCKh %"] != ""}
    return {"ours": ours, "paper": paper}


def masking(work: Work) -> Result:
    """Table 1: body masking, keypoint masking, and neither; without context."""
    forms = {name: Form(NAME, NONE, {"context": "none"}, masks) for name, masks in MASKS.items()}
    runs = trained(work, forms, work.one_person)
    rows = _rows(runs, MASKING, "augmentation")
    return Result(
        rows, lambda path: bars(path, _beside(rows, "augmentation"), "per cent"), conditions(work, runs, PAPER)
    )


def contexts(work: Work) -> Result:
    """Table 2: the three context modules and none, trained alike."""
    runs = trained(work, CONTEXTS, work.one_person)
    rows = _rows(runs, CONTEXT, "context")
    remarks = "the paper's two middle numbers are in the order in which the modules are listed here: ASPP, pyramid"
    return Result(
        rows, lambda path: bars(path, _beside(rows, "context"), "per cent"), [*conditions(work, runs, PAPER), remarks]
    )


def modules(work: Work) -> Result:
    """Table 3: parameters and multiply-adds of the modules."""
    rows = list[Row]()
    for name, (module, parameters, gmacs) in MODULES.items():
        c = measure(make_context(module, 145)[0], 145, 32, 32)
        rows.append(
            {
                "module": name,
                "parameters, M": f"{c.parameters / 1e6:.3f}",
                "weights alone, M": f"{c.conv_weights / 1e6:.3f}",
                "paper parameters, M": parameters,
                "GMACs": f"{c.macs / 1e9:.3f}",
                "paper GFLOPs": gmacs,
            }
        )
    series = {key: {str(r["module"]): float(str(r[key])) for r in rows} for key in ("GMACs", "paper GFLOPs")}
    return Result(
        rows,
        lambda path: bars(path, series, "GMACs at 32x32 cells"),
        (
            "145 channels at 32x32 cells; the paper prints multiply-adds as FLOPs",
            "the paper does not fully specify ASPP and pyramid pooling; they were inferred from these counts",
            "counts do not depend on training or machine, so a mini run equals a full run",
        ),
    )


def stages(work: Work) -> Result:
    """Table 4: the networks with six and two stages, by stage, with flip and three scales, and times."""
    forms = {"6 stages": Form(NAME, "context-cpm-six-mini"), "2 stages": Form(NAME, "context-cpm-mini", {"stages": 2})}
    printed = {"6 stages": (87.9, 55.0), "2 stages": (85.0, 160.0)}
    runs, rows = trained(work, forms, work.one_person), list[Row]()
    for name, run in runs.items():
        count = run.net()[0].config.stages
        for stage in range(1, count + 1):
            rows.append({"network": name, "output of stage": stage, "views": 1} | _scored(run, stage))
        several = run.predictor(flip=True, scales=(0.75, 1.0, 1.25))
        row: Row = {"network": name, "output of stage": count, "views": 6} | _scored(run, 0, several)
        rows.append(row | {"paper PCKh %": printed[name][0], "paper frames a second": printed[name][1]})
    nets = {name: run.net()[0] for name, run in runs.items()}
    size, rounds = (128, 3) if work.mini else (256, 20)
    spent = times(nets, size, size, rounds)
    for name, (ms, share) in spent.items():
        last = next(row for row in reversed(rows) if row["network"] == name)
        last |= {"ms of one view": f"{ms:.1f}", "time of 6 stages": f"{share:.3f}"}
    metric = next(key for key in rows[0] if key.startswith("PCK"))
    series: dict[str, dict[str, float]] = {}
    for row in rows:
        if row["views"] == 1 and row[metric] != "":
            series.setdefault(str(row["network"]), {})[f"stage {row['output of stage']}"] = float(str(row[metric]))
    remarks = [
        "the paper's numbers are for LIP's test set, with training on validation images too, flip and three scales",
        f"time: torch on a CPU at {size}x{size}, {rounds} rounds in turn; the paper: GTX 1080 Ti, and 19.5 frames a"
        " second with 2 stages on a Core i7-6850K",
    ]
    return Result(rows, lambda path: bars(path, series, metric), [*conditions(work, runs, PAPER), *remarks])


def _scored(run: Run, stage: int, predictor: object = None) -> Row:
    done = scores(run, predictor or first_stages(run, stage))  # pyright: ignore[reportArgumentType]
    metric = next(iter(done.scores))
    return {f"{metric} %": figure(done, metric), "AUC %": figure(done, "AUC")}


def fine_maps(work: Work) -> Result:
    """Table 5: maps of 64x64 cells, for MPII."""
    form = Form("context-cpm-mpii", "context-cpm-mini", {"stride": 4, "stages": 2} if work.mini else {})
    runs, rows = trained(work, {"64x64 maps": form}, work.one_person), list[Row]()
    for name, run in runs.items():
        done = scores(run)
        rows.append({"network": name} | loss_row(run))
        for key in ("PCKh@0.5", "PCK@0.2", "AUC", "head", "shoulders", "elbows", "wrists", "hips", "knees", "ankles"):
            if key in done.scores:
                rows[-1][f"{key} %"] = figure(done, key)
        rows[-1] |= {"paper PCKh@0.5 %": 90.9, "paper AUC %": 64.2, "paper ms": 24.5}
    found = {
        key: float(str(value)) for key, value in rows[0].items() if " %" in key and "paper" not in key and value != ""
    }
    return Result(
        rows,
        lambda path: bars(path, {"ours": found}, "per cent"),
        [
            *conditions(work, runs, "MPII, about 25,000 images; rotation up to 30 degrees; 24.5 ms on a GTX 1080 Ti"),
            "MPII's test set is evaluated by a server; here the common split of its training part is used",
        ],
    )


def augmented(work: Work) -> Result:
    """Figure 5: training samples under each augmentation."""
    folder = work.out.resolve() / "generated" / "samples"
    write_samples(folder)
    size, columns = 192, 6
    kinds = {
        "rotation and scale": {},
        "channels permuted": {"permute": 1.0},
        "keypoint masking": {"mask_joints": 1.0},
        "body masking": {"mask_body": 1.0},
    }
    base = AugmentConfig(**dict.fromkeys(("grey", "blur", "colour", "mask_body", "mosaic"), 0.0))
    base = AugmentConfig(**{**base.__dict__, "whole": 1.0, "whole_zoom": (0.75, 1.25), "rotate": 40.0})
    head, rows, panels = build(NAME.replace("-", "_"), stages=1).head, list[Row](), list[list[tuple[str, np.ndarray]]]()
    for name, changes in kinds.items():
        config = AugmentConfig(**{**base.__dict__, "rotate_share": 1.0, **changes})
        samples = PoseSamples([Source(str(folder))], folder, head, size, config)
        images = sample_images(samples, columns)
        still = sample_images(PoseSamples([Source(str(folder))], folder, head, size, base.still()), columns)
        changed = float(np.mean([np.abs(a.astype(int) - b).mean() > 1 for a, b in zip(images, still, strict=True)]))
        rows.append({"augmentation": name, "samples": columns, "share changed": changed, "paper": "an image"})
        panels.append([(name if i == 0 else "", image) for i, image in enumerate(images)])
    return Result(
        rows,
        lambda path: grid(path, panels),
        (
            "the images are the package's two samples, with joints found by the default model; the paper: LIP",
            "rotation up to 40 degrees, scale 0.75 to 1.25, flip, as the paper states; `lithepose analyze augment`"
            " draws the samples of a recipe",
        ),
    )


def write_samples(folder: Path) -> None:
    """Write the package's two sample images as a data set, with the joints found by the default model."""
    from ..inference.load import load

    folder.mkdir(parents=True, exist_ok=True)
    images, annotations = [], []
    for i, path in enumerate((SAMPLE, SAMPLE.with_name("camera.jpg"))):
        image = read_image(path)
        poses = load()(image)
        cv2.imwrite(str(folder / f"{path.stem}.png"), image[..., ::-1])
        images.append({"id": i, "file_name": f"{path.stem}.png", "width": image.shape[1], "height": image.shape[0]})
        for xy in poses.xy[:1]:
            seen = ~np.isnan(xy[:, 0])
            joints = np.concatenate([np.nan_to_num(xy), 2.0 * seen[:, None]], 1)
            annotations.append(annotation(joints, i, i + 1))
    write_annotations(folder / "train.json", images, annotations)


def fields(work: Work) -> Result:
    """Figures 6 to 8: areas of the image that affect a joint's heatmap."""
    size, step, window = (128, 16, 33) if work.mini else (256, 3, 11)
    cases = {
        "initial stage": ({"context": "none", "stages": 2}, 0),
        "refinement, no context": ({"context": "none", "stages": 2}, 1),
        "refinement, pyramid": ({"context": "pyramid", "stages": 2}, 1),
        "refinement, ASPP": ({"context": "aspp", "stages": 2}, 1),
        "refinement, U-shaped": ({"context": "unet", "stages": 2}, 1),
    }
    theory = {"initial stage": 235, "refinement, no context": 379}
    rows, panels = list[Row](), list[tuple[str, np.ndarray]]()
    for name, (options, stage) in cases.items():
        torch.manual_seed(0)
        net = build("context_cpm", **options)
        pixels, _ = letterbox(read_image(SAMPLE.with_name("camera.jpg")), size, net.multiple)
        calibrate(net, pixels)
        joint = net.head.skeleton.joints.index("right_wrist")
        change = receptive_field(net, pixels, joint, window=window, step=step, stage=stage, at="centre")
        share, reach = covered(change), theory.get(name, "")
        rows.append({"layer": name, "share of the image": f"{share:.1%}", "theory, pixels": reach, "paper": "an image"})
        panels.append((name, draw_field(pixels, change)))
    return Result(
        rows,
        lambda path: grid(path, [panels]),
        (
            "the paper: trained weights and the change of the full map; here random weights with calibrated BatchNorm,"
            " and only the middle cell, because without training every position changes some cell",
            f"{size}x{size}, a window of {window} pixels every {step} pixels (paper 256x256, 11 pixels)",
            "with trained weights: `lithepose analyze receptive-field context_cpm IMAGE --weights FILE`",
        ),
    )


def where_time_goes(work: Work) -> Result:
    """Section 4: the 2-stage network layer by layer on a CPU; the paper calls 1x1 convolutions its bottleneck."""
    net = build("context_cpm", stages=2)
    size, rounds = (128, 3) if work.mini else (256, 20)
    layers = profile(net, size, size, rounds)
    named = {"1x1 convolution": "the bottleneck"}
    rows = [row | {"paper": named.get(str(row["kind"]), "")} for row in by_kind(layers)]
    series = {"ms": {str(row["kind"]): float(str(row["ms"])) for row in rows}}
    return Result(
        rows,
        lambda path: bars(path, series, f"ms of all such layers at {size}x{size}"),
        (
            "the paper: 19.5 frames a second on a Core i7-6850K in another runtime; here torch, layer by layer",
            f"medians of {rounds} rounds at {size}x{size}; options {json.dumps({'stages': 2})}, random weights",
        ),
    )
