"""The commands that need torch, imported only when they run."""

from __future__ import annotations

import json as json_module
import logging
import re
import sys
import warnings
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import track
from rich.table import Table

OK = 0
# Tables in a pipe or a file are as wide as they need to be, not cut at 80 columns.
out_console = Console(soft_wrap=True, width=None if sys.stdout.isatty() else 200)
err_console = Console(stderr=True, soft_wrap=True)


def train(recipe: Path, /, data: Path = Path("data"), run: Path | None = None, tensorboard: bool = False) -> int:
    """Train a network by a recipe; called again with the same RUN it goes on where that one stopped.

    Args:
        recipe: TOML file, see recipes/.
        data: folder that the recipe's data sets are in.
        run: folder for checkpoints, log and weights. Default: runs/ and the recipe's name.
        tensorboard: write TensorBoard events as well.
    """
    if not recipe.is_file():  # before anybody is told to install torch
        raise FileNotFoundError(f"{recipe}: no such recipe; those of the project are in recipes/")
    try:
        from .training.config import Recipe
        from .training.trainer import train as run_training
    except ImportError as error:
        raise missing("train", "train", error) from error
    folder = run or Path("runs") / recipe.stem
    told = Recipe.read(recipe)
    try:
        weights = run_training(told, data, folder, tensorboard=tensorboard)
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            asked = f"batch = {told.batch}, size = {told.size}"
            raise MemoryError(f"{recipe}: {asked} are too much for the memory; lower one of them") from error
        if str(error).startswith("DataLoader worker"):
            said = "a process that makes samples was killed; is the memory, or /dev/shm, full?"
            raise MemoryError(f"{recipe}: {said} ({error})") from error
        raise
    err_console.print(f"weights: {weights}", highlight=False)
    return OK


def export(
    weights: Path,
    /,
    network: str | None = None,
    options: str | None = None,
    out: Path | None = None,
    size: int | None = None,
) -> int:
    """Write trained weights as an ONNX file and print its largest difference from torch.

    Args:
        weights: .safetensors of a training run.
        network: name of the network. Default: what the weights' file says.
        options: its options, as json. Default: what the weights' file says, or none.
        out: file to write. Default: beside the weights.
        size: longer side of the input that the model shall use by default. Default: what it was trained at, else 512.
    """
    try:
        from .export.onnx import export_weights
    except ImportError as error:
        raise missing("export", "train", error) from error
    path = out or weights.with_suffix(".onnx")
    check_output(path, "--out")
    logging.getLogger("torch").setLevel(logging.ERROR)  # the exporter talks about itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        difference = export_weights(weights, path, network, None if options is None else _options(options), size)
    out_console.print(f"{path}: {path.stat().st_size / 1e6:.1f} MB, largest difference from torch {difference:.1e}")
    return OK


def pack(weights: Path, /, out: Path | None = None, half: bool = False, size: int | None = None) -> int:
    """Turn a trained binary_paf into bits that `predict --model` runs without torch, and print its difference from it.

    Args:
        weights: .safetensors of a training run.
        out: .safetensors to write; the real-valued part is written beside it, as ...-float.onnx. Default: beside the
            weights, as ...-packed.safetensors.
        half: round the real-valued part's weights to fp16.
        size: longer side of the input that the model shall use by default. Default: that which it was trained at.
    """
    try:
        from .binary.pack import pack as pack_weights
    except ImportError as error:
        raise missing("pack", "train,binary", error) from error
    path = out or weights.with_name(f"{weights.stem}-packed.safetensors")
    check_output(path, "--out")
    logging.getLogger("torch").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        difference = pack_weights(weights, path, half, size)
    sizes = [p.stat().st_size / 1e6 for p in (path, path.with_name(f"{path.stem}-float.onnx"))]
    out_console.print(
        f"{path}: {sizes[0]:.1f} MB, its real-valued part {sizes[1]:.1f} MB,"
        f" typical difference from torch {difference:.1e}"
    )
    return OK


def complexity(model: str, /, size: str = "", options: str = "{}") -> int:
    """Count parameters and multiply-adds of a network, and the size of its parameters.

    Args:
        model: name of a network.
        size: of its input, HEIGHTxWIDTH in pixels. Default: that of its paper.
        options: of the network, as json.
    """
    try:
        from .analysis.complexity import PAPERS, measure_parts
        from .networks import build
    except ImportError as error:
        raise missing("complexity", "train", error) from error
    net = build(model, **_options(options))
    paper_size, says = PAPERS[model]
    own = getattr(net.config, "size", None)
    match = re.fullmatch(r"(\d+)x(\d+)", size or (f"{own}x{own}" if own else paper_size))
    if not match:
        raise ValueError(f"--size {size}: give HEIGHTxWIDTH, as in 256x384")
    height, width = map(int, match.groups())
    parts = measure_parts(net, height, width)
    title = f"{model} at {height}x{width}; a MAC is two FLOPs, but papers print MACs as FLOPs"
    table = Table("", *parts, title=title, caption=f"Its paper, for the default options at {paper_size}: {says}")
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

        from .analysis.receptive_field import calibrate, covered, draw_field, find_joint
        from .analysis.receptive_field import receptive_field as measure
        from .export.onnx import open_weights
        from .networks import build
    except ImportError as error:
        raise missing("receptive-field", "train", error) from error
    import numpy as np

    from .geometry import letterbox
    from .heads.heatmaps import HeatmapHead
    from .image import read_image
    from .writers.images import write_image

    torch.manual_seed(seed)
    if weights:
        net, _ = open_weights(weights, model, None if options == "{}" else _options(options))
    else:
        net = build(model, **_options(options))
    if not isinstance(net.head, HeatmapHead):
        raise ValueError(f"{model} has no heatmaps of whole images: choose another network")
    names = net.head.skeleton.joints
    if joint and joint not in names:
        raise ValueError(f"--joint {joint}: {model} has {', '.join(names)}")
    if not 32 <= size <= 4096:
        raise ValueError(f"--size {size}: the longer side of the network's input must be 32 to 4096 pixels")
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


def _options(text: str) -> dict[str, Any]:
    """Options of a network from json; lists become the tuples that its config holds."""
    try:
        return {k: tuple(v) if isinstance(v, list) else v for k, v in dict(json_module.loads(text)).items()}
    except (ValueError, TypeError) as error:
        raise ValueError(f"--options {text!r}: not a json object, as in '{{\"width\": 128}}'") from error


def check_output(path: Path, option: str) -> None:
    """Refuse a file that cannot be written, before the work and not after.

    Raises:
        ValueError: it is a folder.
        OSError: its folder is not there, or nothing may be written there.
    """
    if path.is_dir():
        raise ValueError(f"{path}: is a folder; name a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it, or name another {option}")
    try:
        try:
            path.open("xb").close()
        except FileExistsError:
            if path.is_file():  # not a device, nor a pipe, which would wait for its reader
                path.open("ab").close()
        else:
            path.unlink()
    except OSError as error:
        raise OSError(f"{path}: cannot be written ({error.strerror}); name another {option}") from error


def missing(command: str, extra: str, error: ImportError) -> ImportError:
    """One line that says what to install."""
    name = (error.name or "a package").split(".")[0]
    return ImportError(f"{command} needs {name}: pip install 'lithepose[{extra}]' ({error})")
