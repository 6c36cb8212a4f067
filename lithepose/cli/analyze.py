"""lithepose analyze: complexity, receptive-field"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

from rich.progress import track
from rich.table import Table

from ..errors import ConfigError
from .calls.console import OK, err_console, missing, out_console
from .calls.files import check_output, parse_options


def complexity(model: str, /, size: str = "", options: str = "{}") -> int:
    """Count parameters and multiply-adds of a network, and the size of its parameters.

    Examples:
        lithepose analyze complexity lithe_paf
        lithepose analyze complexity openpose --size 256x384
        lithepose analyze complexity context_cpm --options '{"stages": 2}'

    Args:
        model: name of a network.
        size: of its input, HEIGHTxWIDTH in pixels. Default: that of its paper.
        options: of the network, as json.
    """
    try:
        from ..analysis.complexity import PAPERS, measure_parts
        from ..networks import build
    except ImportError as error:
        raise missing("complexity", "train", error) from error
    net = build(model, **parse_options(options))
    paper_size, paper = PAPERS.get(model, ("256x256", "none"))
    own = getattr(net.config, "size", None)
    match = re.fullmatch(r"(\d+)x(\d+)", size or (f"{own}x{own}" if own else paper_size))
    if not match:
        raise ConfigError(f"--size {size}: give HEIGHTxWIDTH, as in 256x384")
    height, width = map(int, match.groups())
    parts = measure_parts(net, height, width)
    title = f"{model} at {height}x{width}; a MAC is two FLOPs, but papers print MACs as FLOPs"
    table = Table("", *parts, title=title, caption=f"Its paper, for the default options at {paper_size}: {paper}")
    rows = {
        "parameters": [f"{c.parameters:,}" for c in parts.values()],
        "of them conv weights": [f"{c.conv_weights:,}" for c in parts.values()],
        "BatchNorm statistics": [f"{c.bn_statistics:,}" for c in parts.values()],
        "GMACs": [f"{c.macs / 1e9:.3f}" for c in parts.values()],
        "GFLOPs": [f"{2 * c.macs / 1e9:.3f}" for c in parts.values()],
        "binary GMACs": [f"{c.binary_macs / 1e9:.3f}" for c in parts.values()],
        "MB in fp32": [f"{c.megabytes['fp32']:.2f}" for c in parts.values()],
        "MB in fp16": [f"{c.megabytes['fp16']:.2f}" for c in parts.values()],
        "MB, binary weights in 1 bit": [f"{c.megabytes['packed']:.2f}" for c in parts.values()],
    }
    for name, values in rows.items():
        table.add_row(name, *values)
    out_console.print(table)
    return OK


def receptive_field(
    model: str,
    image: Path,
    /,
    joint: str = "",
    out: Path = Path("receptive-field.jpg"),
    weights: Path | None = None,
    options: str = "{}",
    size: int = 256,
    step: int = 3,
    stage: int = -1,
    at: Literal["map", "peak", "centre"] = "map",
    seed: int = 0,
    truth: tuple[float, float] | None = None,
) -> int:
    """Draw the receptive field of a joint: noise slides over the image, and the change of the heatmap is drawn.

    Trained weights also mark where they see the joint: blue if it is a right one, else red.

    Examples:
        lithepose analyze receptive-field lithe_paf image.jpg
        lithepose analyze receptive-field lithe_paf image.jpg --joint left_wrist
        lithepose analyze receptive-field lithe_paf image.jpg --size 128 --step 8

    Args:
        model: name of a network with heatmaps.
        image: image to run on.
        joint: name of the joint. Default: the first of the network's.
        out: image to write.
        weights: .safetensors of a training run. Default: random ones, from the seed, with BatchNorm of this image.
        options: of the network, as json.
        size: longer side of the network's input.
        step: pixels between two places of the 11x11 window of noise.
        stage: of the heatmap, from 0; -1 is the last.
        at: the change that counts: of the whole map, or of its highest or middle cell alone.
        seed: of the noise, and of random weights.
        truth: x and y of where the joint is in the image, in pixels: marked in white.
    """
    try:
        import torch

        from ..analysis.receptive_field import calibrate, covered, draw_field, find_joint
        from ..analysis.receptive_field import receptive_field as measure
        from ..exporters.onnx import open_weights
        from ..networks import build
    except ImportError as error:
        raise missing("receptive-field", "train", error) from error
    import numpy as np

    from ..geometry import letterbox
    from ..heads.heatmaps import HeatmapHead
    from ..media.image import read_image, write_image

    torch.manual_seed(seed)
    if weights:
        net, _ = open_weights(weights, model, None if options == "{}" else parse_options(options))
    else:
        net = build(model, **parse_options(options))
    if not isinstance(net.head, HeatmapHead):
        raise ConfigError(f"{model} has no heatmaps of whole images: choose another network")
    names = net.head.skeleton.joints
    if joint and joint not in names:
        raise ConfigError(f"--joint {joint}: {model} has {', '.join(names)}")
    if not 32 <= size <= 4096:
        raise ConfigError(f"--size {size}: the longer side of the network's input must be 32 to 4096 pixels")
    check_output(out, "--out")
    sample = read_image(image)
    pixels, transform = letterbox(sample, size, net.multiple)

    if not weights:
        calibrate(net, pixels)

    def progress(batches):  # noqa: ANN001, ANN202
        return track(batches, "sliding", console=err_console, disable=not err_console.is_terminal, transient=True)

    index = names.index(joint) if joint else 0
    change = measure(net, pixels, index, step=step, stage=stage, at=at, seed=seed, progress=progress)
    found = find_joint(net, pixels, index, stage) if weights else None
    marks = None if truth is None else tuple(transform.to_input(np.array(truth)).tolist())
    colour = (0, 0, 255) if names[index].startswith("right") else (255, 0, 0)
    write_image(out, draw_field(pixels, change, marks, found, colour))
    by = "" if weights else ", by random weights"
    share = f"{covered(change):.1%} of the image change it by a hundredth of the largest change or more{by}"
    out_console.print(f"{names[index]}: {share}; drawn: {out}")
    return OK
