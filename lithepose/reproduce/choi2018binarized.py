"""choi2018binarized: operation counts, losses and fields of binarized modules, times, and the two future works."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from ..analysis.complexity import measure
from ..analysis.plot import bars, grid
from ..geometry import letterbox
from ..heads.boxes import pose_likeness
from ..heads.outputs import Maps
from ..inference.incremental import Incremental
from ..inference.predictor import Predictor
from ..media.image import read_image
from ..networks import Scaled, build
from ..networks.binary_paf import BinaryPaf, MultiScaleModule, binarized
from ..poses import Poses
from ..resources import SAMPLE, WEIGHTS
from ..runtime.onnx import cores
from ..timing import Row, median, ratio, take_turns
from .trained import Form, conditions, count, figure, loss_row, losses, predictor_of, scores, trained
from .work import Result, Work

PAPER = "COCO, TensorFlow, one GTX 1080, 368x654, 100 epochs shown; it states no optimizer, batch, counts or accuracy"
FORMS = {
    "7x7 float": Form("openpose", "openpose-mini"),
    "multi-scale float": Form("binary-paf-float", "binary-paf-float-mini"),
    "multi-scale binary": Form("binary-paf", "binary-paf-mini"),
    "7x7 merely binarized": Form("binary-paf-7x7", "binary-paf-7x7-mini"),
}
NETWORKS = {
    "7x7 float": ("openpose", {}),
    "multi-scale float": ("binary_paf", {"layers": "float"}),
    "multi-scale binary": ("binary_paf", {}),
    "7x7 merely binarized": ("binary_paf", {"layers": "binary7"}),
}
HEIGHT, WIDTH = 368, 656


def operations(work: Work) -> Result:
    """Figure 3: a 7x7 layer compared with its three 3x3 filters, and whole networks."""
    rows, gmacs = list[Row](), dict[str, dict[str, float]]()
    layers: dict[str, tuple[nn.Module, str]] = {
        "a 7x7 layer, 128 channels": (
            nn.Conv2d(128, 128, 7, padding=3, bias=False),
            "49 multiplications, 48 additions",
        ),
        "its multi-scale module": (MultiScaleModule(128, 128, binarized), "27 multiplications, 26 additions"),
    }
    for name, (layer, printed) in layers.items():
        c = measure(layer, 128, HEIGHT // 8, WIDTH // 8)
        rows.append(_counts(name, c) | {"paper": printed})
    for name, (network, options) in NETWORKS.items():
        c = count(build(network, **options), HEIGHT, WIDTH)
        rows.append(_counts(name, c) | {"paper": "none"})
        gmacs[name] = {"float": (c.macs - c.binary_macs) / 1e9, "binary": c.binary_macs / 1e9}
    by_kind = {kind: {name: values[kind] for name, values in gmacs.items()} for kind in ("float", "binary")}
    return Result(
        rows,
        lambda path: bars(path, by_kind, f"GMACs at {HEIGHT}x{WIDTH}"),
        (
            f"{HEIGHT}x{WIDTH} instead of 368x654, which is not a multiple of 8",
            "the paper counts three filters of the same width instead of one; its module halves the widths, so it has"
            " 7.9 times fewer weights, not 49 / 27 = 1.8 times",
            "counts do not depend on training or machine, so a mini run equals a full run",
        ),
    )


def _counts(name: str, c: Any) -> Row:
    return {
        "network or layer": name,
        "parameters": c.parameters,
        "GMACs": f"{c.macs / 1e9:.3f}",
        "of them binary": f"{c.binary_macs / 1e9:.3f}",
        "MB float": f"{c.megabytes['fp32']:.2f}",
        "MB packed": f"{c.megabytes['packed']:.2f}",
    }


def curves(work: Work) -> Result:
    """Figure 5: losses of the four variants during training."""
    runs = trained(work, FORMS)
    rows = [{"form": name} | loss_row(run) | {"paper": "a curve without numbers"} for name, run in runs.items()]
    return Result(rows, lambda path: losses(runs, path), conditions(work, runs, PAPER))


def fields(work: Work) -> Result:
    """Figure 6: part affinity fields during training of the binarized baseline and the proposed network."""
    runs, rows = trained(work, FORMS), list[Row]()
    for name, run in runs.items():
        done = scores(run)
        row: Row = {"form": name, "steps": run.log()[-1]["step"]}
        row |= {"loss of the pafs": f"{run.last('pafs'):.4f}", "paper": "only images"}
        rows.append(row | {f"{key} %": figure(done, key) for key in ("AP", "AP50", "AR")})

    def draw(path: Path) -> None:
        size = 192 if work.mini else HEIGHT
        grid(
            path,
            [
                [(f"{name}, step {step}", field_over(run.predictor(weights, size=size))) for step, weights in kept]
                for name, run in runs.items()
                if (kept := list(run.kept().items()) or [(run.log()[-1]["step"], run.folder / "weights.safetensors")])
            ],
        )

    remarks = "the image is the package's sample; the strongest limb field of each cell is drawn, orange means 1"
    return Result(rows, draw, [*conditions(work, runs, PAPER), remarks])


def field_over(predictor: Predictor) -> np.ndarray:
    """Strength of the strongest limb field on the sample image, (H, W, 3) uint8."""
    pixels, _ = predictor.letterbox(read_image(SAMPLE))
    (maps,) = predictor.runtime(pixels[None])
    assert isinstance(maps, Maps)
    strength = np.hypot(maps.pafs[::2], maps.pafs[1::2]).max(0).clip(0, 1)
    shade = cv2.resize(strength, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)[..., None]
    return (pixels * (0.5 - 0.5 * shade) + np.array([255, 140, 0]) * shade).astype(np.uint8)


def times(work: Work) -> Result:
    """Section 4: seconds per image, 0.19 for OpenPose and 0.09 for the proposed network."""
    from ..binary.benchmark import networks

    size, rounds = ((HEIGHT // 2, WIDTH // 2), 2) if work.mini else ((HEIGHT, WIDTH), 10)
    backbone = "mobilenet_v1" if work.mini else "vgg19"
    found = networks(backbone, cores(), rounds, (size,))
    printed = {"float 7x7": "190", "float multi-scale": "90 (bits emulated in floats)"}
    rows = [
        {"form": row["form"], "ms": row["ms"], "of binary": row["ratio"], "paper ms": printed.get(str(row["form"]), "")}
        for row in found
    ]
    series = {"ms": {str(row["form"]): float(str(row["ms"])) for row in rows}}
    return Result(
        rows,
        lambda path: bars(path, series, f"ms at {size[0]}x{size[1]}"),
        (
            "the paper: GTX 1080, TensorFlow, 368x654; compare ratios, not milliseconds",
            f"here {size[0]}x{size[1]}, {backbone}, {cores()} threads, {rounds} rounds in turn; random weights",
            "float networks run in ONNX Runtime, binary ones in this package's kernel",
        ),
    )


def bits(work: Work) -> Result:
    """Future work: real bit operations instead of emulated ones."""
    from ..binary.benchmark import layers, modules

    rounds = 5 if work.mini else 50
    rows = [*layers(128, 46, 54, rounds), *modules(46, 54, rounds)]
    table = [
        {"what": row["table"], "form": row["form"], "ms": row["ms"], "of binary": row["ratio"], "paper": "not done"}
        for row in rows
    ]
    series: dict[str, dict[str, float]] = {}
    for row in table:
        series.setdefault(str(row["what"]), {})[str(row["form"])] = float(str(row["ms"]))
    return Result(
        table,
        lambda path: bars(path, series, "ms, 128 channels, 46x54", log=True),
        (
            "the paper could not implement such operations and emulated them",
            f"one thread, {rounds} rounds in turn, random weights; docs/binary.md describes how the sums are computed",
        ),
    )


def video(work: Work) -> Result:
    """Future work: start from the previous frame's result."""
    size, frames = (192, 8) if work.mini else (368, 60)
    weights = WEIGHTS / "binary_paf-latent.safetensors"
    predictor = predictor_of(weights, size=size)
    images = sliding(frames)
    refined = [FromBefore(predictor, stages, every) for stages in (2, 1) for every in (4, 15)]
    forms: dict[str, Callable[[np.ndarray], Poses]] = {"full run on every frame": predictor}
    forms |= {one.name: one for one in refined} | {"--incremental": Incremental(predictor)}
    found = {name: [form(image) for image in images] for name, form in forms.items()}
    parts: dict[str, Callable[[], object]] = {
        name: lambda f=form: [f(image) for image in images] for name, form in forms.items()
    }
    spent, first = take_turns(parts, 2 if work.mini else 10), next(iter(forms))
    rows: list[Row] = [
        {
            "form": name,
            "ms a frame": f"{median(spent, name) / frames:.1f}",
            "time": f"{ratio(spent, name, first):.2f}",
            "likeness to the first": f"{likeness(found[first], found[name]):.3f}",
            "paper": "not done",
        }
        for name in forms
    ]
    series = {"time": {str(r["form"]): float(str(r["time"])) for r in rows}}
    series["likeness"] = {str(r["form"]): float(str(r["likeness to the first"])) for r in rows}
    return Result(
        rows,
        lambda path: bars(path, series, "relative to a full run on every frame"),
        (
            f"{frames} frames of the sample image, which moves by two pixels a frame; longer side {size}, in torch",
            "the stages were not trained on maps of an earlier frame; the paper does not require it, but it would help",
            "likeness is the mean OKS of a person with the nearest person of the other run; 0 if that run finds none",
        ),
    )


class FromBefore:
    """Refines the maps of the previous frame; the first stage runs only every few frames.

    Args:
        predictor: predictor of a network with stages, in torch.
        stages: number of last stages that refine the previous maps.
        every: number of frames after which the first stage runs again.
    """

    def __init__(self, predictor: Predictor, stages: int, every: int) -> None:
        self.predictor, self.stages, self.every = predictor, stages, every
        runtime: Any = predictor.runtime
        net = runtime.exported.net
        assert isinstance(net, BinaryPaf)
        self.net, self.scale = net, Scaled(net)
        self._maps: tuple[torch.Tensor, torch.Tensor] | None = None
        self._since = 0

    @property
    def name(self) -> str:
        """Name for tables."""
        return f"last {self.stages} of {len(list(self.net.stages))} stages, first every {self.every} frames"

    @torch.no_grad()
    def __call__(self, image: np.ndarray) -> Poses:
        """Return the people of the next frame, (H, W, 3) uint8 RGB."""
        pixels, back = self.predictor.letterbox(image)
        net, stages = self.net, list(self.net.stages)
        features = net.cpm(net.backbone(self.scale(torch.from_numpy(pixels[None]).permute(0, 3, 1, 2)))[-1])
        fresh = self._maps is None or self._since % self.every == 0
        maps = stages[0](features) if fresh or self._maps is None else self._maps
        for stage in stages[1:] if fresh else stages[-self.stages :]:
            heatmaps, pafs = maps
            maps = stage(torch.cat([pafs, heatmaps, features], 1))
        self._maps, self._since = maps, self._since + 1
        joints = len(net.head.skeleton)
        found = Maps.from_arrays(maps[0][0, :joints].numpy(), maps[1][0].numpy())
        return self.predictor.decode(found, back)


def sliding(frames: int, side: int = 384) -> list[np.ndarray]:
    """Make a video of a window that moves over the sample image by two pixels per frame, (side, side, 3) uint8 each."""
    image, _ = letterbox(read_image(SAMPLE), side + 64, 8)
    return [np.ascontiguousarray(image[:side, 2 * i % 64 : 2 * i % 64 + side]) for i in range(frames)]


def likeness(one: list[Poses], two: list[Poses]) -> float:
    """Mean OKS of the people of two runs on the same frames, each with the nearest person of the other run."""
    found = []
    for a, b in zip(one, two, strict=True):
        if not len(a) or not len(b):
            found += [0.0] * max(len(a), len(b))
            continue
        xy, score = np.concatenate([a.xy, b.xy]), np.concatenate([a.score, b.score])
        box = np.concatenate([a.xyxy, b.xyxy])
        table = pose_likeness(xy, score, np.prod(box[:, 2:] - box[:, :2], axis=1), a.skeleton)[: len(a), len(a) :]
        found += [*table.max(1).tolist(), *table.max(0).tolist()]
    return float(np.mean(found)) if found else 1.0
