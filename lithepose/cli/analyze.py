"""lithepose analyze: complexity, profile, receptive-field, features, augment"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.progress import track
from rich.table import Table

from ..errors import ConfigError
from .calls.console import OK, err_console, missing, out_console
from .calls.files import check_output, keep_inputs, parse_options, parse_size


def complexity(model: str, /, size: str = "", options: str = "{}") -> int:
    """Count parameters and multiply-adds of a network, and the size of its parameters.

    Examples:
        lithepose analyze complexity lithe_paf
        lithepose analyze complexity openpose --size 256x384
        lithepose analyze complexity context_cpm --options '{"stages": 2}'

    Args:
        model: name of a network.
        size: input size, HEIGHTxWIDTH in pixels. Default: the size in its paper.
        options: options of the network, as json.
    """
    try:
        from ..analysis.complexity import PAPERS, measure_parts
        from ..networks import build
    except ImportError as error:
        raise missing("complexity", "train", error) from error
    net = build(model, **parse_options(options))
    paper_size, paper = PAPERS.get(model, ("256x256", "none"))
    own = getattr(net.config, "size", None)
    height, width = parse_size(size or (f"{own}x{own}" if own else paper_size))
    parts = measure_parts(net, height, width)
    title = f"{model} at {height}x{width}; a MAC is two FLOPs, but papers print MACs as FLOPs"
    table = Table("", *parts, title=title, caption=f"In the paper, with default options at {paper_size}: {paper}")
    rows = {
        "parameters": [f"{c.parameters:,}" for c in parts.values()],
        "of which conv weights": [f"{c.conv_weights:,}" for c in parts.values()],
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
    """Draw the receptive field of a joint: the change of its heatmap when noise covers each position of the image.

    With trained weights, the predicted joint is also marked: blue for a joint on the right side, otherwise red.

    Examples:
        lithepose analyze receptive-field lithe_paf image.jpg
        lithepose analyze receptive-field lithe_paf image.jpg --joint left_wrist
        lithepose analyze receptive-field lithe_paf image.jpg --size 128 --step 8

    Args:
        model: name of a network with heatmaps.
        image: image to run on.
        joint: name of the joint. Default: the network's first joint.
        out: image to write.
        weights: .safetensors of a training run. Default: random weights from the seed, with BatchNorm statistics of
            this image.
        options: options of the network, as json.
        size: longer side of the network's input.
        step: distance between two positions of the 11x11 window of noise, in pixels.
        stage: stage of the heatmap, from 0; -1 is the last.
        at: where the change is measured: in the full map, or only in its highest cell (peak) or middle cell (centre).
        seed: seed of the noise and of random weights.
        truth: true x and y of the joint in the image, in pixels; they are marked in white.
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
        raise ConfigError(f"{model} has no heatmaps of the full image; choose another network")
    names = net.head.skeleton.joints
    if joint and joint not in names:
        raise ConfigError(f"--joint {joint}: {model} has no such joint; choose one of {', '.join(names)}")
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
    by = "" if weights else " (random weights)"
    share = f"{covered(change):.1%} of the image changes the heatmap by at least 1% of the largest change{by}"
    out_console.print(f"{names[index]}: {share}; image written to {out}")
    return OK


def profile(model: str, /, size: str = "", options: str = "{}", rounds: int = 10, layers: int = 0) -> int:
    """Measure the time of every layer of a network in torch, and sum it by kind of layer.

    Examples:
        lithepose analyze profile context_cpm --options '{"stages": 2}'
        lithepose analyze profile lithe_paf --size 256x384
        lithepose analyze profile openpose --size 184x216 --layers 10

    Args:
        model: name of a network; its weights are random.
        size: input size, HEIGHTxWIDTH in pixels. Default: the size in its paper.
        options: options of the network, as json.
        rounds: number of rounds; medians are printed.
        layers: number of slowest layers to list one by one.
    """
    try:
        from ..analysis.complexity import PAPERS
        from ..analysis.profile import by_kind
        from ..analysis.profile import profile as measure
        from ..networks import build
    except ImportError as error:
        raise missing("profile", "train", error) from error
    net = build(model, **parse_options(options))
    height, width = parse_size(size or PAPERS.get(model, ("256x256", ""))[0])
    found = measure(net, height, width, rounds)
    rows = by_kind(found)
    table = Table(*rows[0], title=f"{model} at {height}x{width}, medians of {rounds} rounds in torch")
    for row in rows:
        table.add_row(*map(str, row.values()))
    out_console.print(table)
    if layers:
        single = Table("layer", "kind", "output", "MMACs", "ms")
        for one in sorted(found, key=lambda layer: -layer.ms)[:layers]:
            single.add_row(one.name, one.kind, "x".join(map(str, one.out)), f"{one.macs / 1e6:.1f}", f"{one.ms:.3f}")
        out_console.print(single)
    return OK


def features(
    model: str,
    image: Path,
    /,
    layers: tuple[str, ...] = (),
    out: Path = Path("features.png"),
    weights: Path | None = None,
    options: str = "{}",
    size: int = 256,
    channels: int = 16,
) -> int:
    """Draw the feature maps of a network's layers for an image: the channels that vary most, side by side.

    Examples:
        lithepose analyze features multilevel image.jpg
        lithepose analyze features context_cpm image.jpg --layers cpm.0 cpm.1
        lithepose analyze features lithe_paf image.jpg --channels 32

    Args:
        model: name of a network.
        image: image to run on.
        layers: names of modules. Default: Conv-1 and Conv-4 of both branches of multilevel; the first, middle and last
            convolution of others.
        out: image to write.
        weights: .safetensors of a training run. Default: random weights.
        options: options of the network, as json.
        size: longer side of the network's input.
        channels: number of channels per layer.
    """
    try:
        from ..analysis.features import MULTILEVEL_LAYERS, layers_with_maps, sheet
        from ..analysis.features import features as measure
        from ..analysis.plot import grid
        from ..exporters.onnx import open_weights
        from ..networks import build
    except ImportError as error:
        raise missing("features", "train", error) from error
    from ..geometry import letterbox
    from ..media.image import read_image

    if not 32 <= size <= 4096 or channels < 1:
        raise ConfigError(f"--size {size}, --channels {channels}: size must be 32 to 4096, and channels 1 or more")
    check_output(out, "--out")
    keep_inputs(out, "--out", (image, *([weights] if weights else [])))
    if weights:
        net, _ = open_weights(weights, model, None if options == "{}" else parse_options(options))
    else:
        net = build(model, **parse_options(options))
    every = layers_with_maps(net)
    names = layers or (MULTILEVEL_LAYERS if model == "multilevel" else (every[0], every[len(every) // 2], every[-1]))
    pixels, _ = letterbox(read_image(image), size, net.multiple)
    found = measure(net, pixels, names)
    panels = [(one.layer, sheet(one.maps, one.strongest(channels))) for one in found]
    grid(out, [[("image", pixels), *panels]])
    for one in found:
        shape = "x".join(map(str, one.maps.shape))
        out_console.print(f"{one.layer}: {shape}, {one.active:.1%} above zero", markup=False, highlight=False)
    out_console.print(f"image written to {out}", markup=False, highlight=False)
    return OK


def augment(recipe: Path, /, data: Path = Path("data"), out: Path = Path("augmented.jpg"), count: int = 24) -> int:
    """Draw the first samples that a recipe trains on, with its augmentation.

    Examples:
        lithepose analyze augment recipes/lithe.toml --data data
        lithepose analyze augment mine.toml --out samples.png
        lithepose analyze augment mine.toml --count 60

    Args:
        recipe: TOML file, see recipes/.
        data: folder with the recipe's data sets.
        out: image to write.
        count: number of samples.
    """
    from ..training.config import Recipe

    plan = Recipe.read(recipe)
    if not 1 <= count <= 1000:
        raise ConfigError(f"--count {count}: must be 1 to 1000")
    check_output(out, "--out")
    try:
        from ..training.report import sample_images
        from ..training.setup import make_network, make_samples
    except ImportError as error:
        raise missing("augment", "train", error) from error
    import tempfile

    from ..drawing import tiled
    from ..media.image import write_image

    net = make_network(plan, data, with_weights=False)
    with tempfile.TemporaryDirectory() as cache:
        samples = make_samples(plan.data, data, net, plan, plan.augment, Path(cache))
        write_image(out, tiled(sample_images(samples, count), 6))
    out_console.print(f"{count} samples from {len(samples)} images, written to {out}", markup=False, highlight=False)
    return OK
