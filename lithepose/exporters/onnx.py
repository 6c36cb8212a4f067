"""Export of trained weights to an ONNX file that takes pixels."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import SafetensorError, safe_open
from torch import nn

from ..errors import MissingFileError, ModelError
from ..geometry import letterbox
from ..heads.boxes import box_iou
from ..heads.outputs import Boxes
from ..media.image import read_image
from ..networks import Network, build, default_head
from ..networks.binary_paf import BinaryConv2d
from ..networks.weights import load_weights
from ..resources import SAMPLE
from ..runtime.base import ModelInfo, Runtime
from ..runtime.onnx import OnnxRuntime
from ..runtime.torch import Exported, describe, exported

OPSET = 18
WORST = 0.05  # limit relative to the largest value; trained networks differ by about 0.001


def export_onnx(net: Network, info: ModelInfo, path: str | Path, half: bool = True, opset: int = OPSET) -> float:
    """Write ``net`` as ONNX with dynamic batch, height and width, then compare it with torch.

    Args:
        net: network in evaluation mode, fp32.
        info: stored in the file's metadata.
        path: file to write.
        half: store weights as fp16, in half the bytes. They are cast to fp32 when the file is loaded, because CPUs
            compute in fp32. BatchNorm is folded into them first, so even fp16 weights are rounded.
        opset: version of ONNX's operators.

    Returns:
        The largest difference from torch, see :func:`parity`.

    Raises:
        ModelError: the difference is larger than rounding errors; nothing is written.
    """
    wrapped = exported(net).eval()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        _trace(wrapped, info, whole, opset)
        model = onnx.load(whole)
        fold_scale(model)
        helper.set_model_props(model, {"lithepose": info.to_json()})
        onnx.save(model, whole)
        # Rounding a weight can swap two boxes of equal score, or flip signs that flip others. A comparison is then
        # impossible, so it is made before rounding.
        fragile = not info.batched or any(isinstance(m, BinaryConv2d) for m in net.modules())
        difference = parity(wrapped, OnnxRuntime(whole)) if fragile else None
        tidy(model, half)
        onnx.save(model, whole)
        difference = parity(wrapped, OnnxRuntime(whole)) if difference is None else difference
        if not difference < WORST:
            raise ModelError(
                f"{path}: not written; the exported graph differs from torch by {difference}, more than rounding"
                " explains"
            )
        shutil.copyfile(whole, path)
    return difference


def _trace(wrapped: Exported, info: ModelInfo, path: Path, opset: int) -> None:
    names = wrapped.names
    if not info.batched:
        # Proposals need data-dependent control flow, which only the older exporter and torchvision's operators support.
        size = wrapped.net.config.size
        example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        axes = {"image": {1: "height", 2: "width"}, **{name: {0: "people"} for name in names}}
        torch.onnx.export(
            wrapped,
            (example,),
            str(path),
            input_names=["image"],
            output_names=list(names),
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )
        return
    trace(wrapped, names, info.multiple, path, info.size if info.fixed_size else 0, opset)


def trace(
    module: nn.Module, names: Sequence[str], multiple: int, path: str | Path, fixed: int = 0, opset: int = OPSET
) -> None:
    """Write the graph of a module with one input, ``image``, (N, H, W, 3) uint8.

    Args:
        module: module to trace.
        names: names of its outputs.
        multiple: H and W must be multiples of it.
        path: ONNX file to write.
        fixed: H and W, if they are not dynamic.
        opset: version of ONNX's operators.
    """
    example = torch.zeros(2, fixed or multiple * 3, fixed or multiple * 4, 3, dtype=torch.uint8)
    # _h and _w count multiples, so that the exporter knows that strides divide evenly.
    height, width = torch.export.Dim("_h", min=1, max=512), torch.export.Dim("_w", min=1, max=512)
    shapes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if not fixed:
        shapes |= {1: multiple * height, 2: multiple * width}
    with torch.no_grad():
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["image"],
            output_names=list(names),
            dynamic_shapes={"image": shapes},
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def tidy(model: onnx.ModelProto, half: bool) -> None:
    """Round large weights to fp16 if ``half``, and check.

    The exporter's notes, which name source files, are removed.

    Raises:
        ModelError: weights are beyond fp16's range.
    """
    if half:
        _halve(model)
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)


def fold_scale(model: onnx.ModelProto) -> None:
    """Divide the weights of the first convolution by the input's scale, instead of its input.

    The input's mean stays in the graph, because convolutions pad with zeros after it is subtracted.
    """
    graph = model.graph
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for division in [node for node in graph.node if node.op_type == "Div" and node.input[1] in stored]:
        users = [node for node in graph.node if division.output[0] in node.input]
        if len(users) != 1 or users[0].op_type != "Conv" or users[0].input[1] not in stored:
            continue
        conv, scale = users[0], numpy_helper.to_array(stored[division.input[1]])
        weight = numpy_helper.to_array(stored[conv.input[1]])
        shared = sum(conv.input[1] in node.input for node in graph.node) > 1
        if shared or scale.shape != (1, weight.shape[1], 1, 1):
            continue
        stored[conv.input[1]].CopyFrom(numpy_helper.from_array(weight / scale, conv.input[1]))
        conv.input[0] = division.input[0]
        graph.node.remove(division)
        if not any(division.input[1] in node.input for node in graph.node):
            graph.initializer.remove(stored[division.input[1]])


def _halve(model: onnx.ModelProto) -> None:
    """Store large fp32 initialisers as fp16 with a Cast, which ONNX Runtime folds on loading."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < 64:
            continue
        name = tensor.name
        rounded = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ModelError(
                f"{name}: contains values beyond the range of fp16; train with weight decay or a lower rate"
            )
        half = numpy_helper.from_array(rounded, f"{name}_half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@torch.no_grad()
def parity(wrapped: Exported, runtime: Runtime) -> float:
    """Largest difference between torch and a runtime, on an embedded image and on noise of several sizes.

    For networks with binary layers: the mean difference over the mean value, and its median over all images. If an
    input is close to 0, rounding can flip its sign, and one sign can change many later values. These networks and
    detectors run only on noise: in uniform image areas many signs flip at once, and boxes of equal score swap places.
    For joints from heatmaps inside the graph: the median distance, because on noise two cells may be equally high.
    For person detectors: their scores, because boxes of equal score swap places.

    Returns:
        relative to the output's largest value on the first image, or, for coordinates, to the input's longer side.
    """
    info, rng = runtime.info, np.random.default_rng(0)
    step = info.multiple
    signs = any(isinstance(m, BinaryConv2d) for m in wrapped.modules())
    pixels, _ = letterbox(read_image(SAMPLE), info.size, step)
    boxes = not info.batched
    batches = (
        [rng.integers(0, 256, (1, info.size, info.size, 3), np.uint8)] if boxes else [] if signs else [pixels[None]]
    )
    if info.batched and not info.fixed_size:
        sizes = (1, step, step), (2, 3 * step, 2 * step), (1, 4 * step, 6 * step)
        batches += [rng.integers(0, 256, (n, h, w, 3), np.uint8) for n, h, w in sizes]
    differences, scale = [0.0] if not signs else [], dict[str, float]()
    for images in batches:
        expected = dict(zip(wrapped.names, wrapped(torch.from_numpy(images)), strict=True))
        for i, result in enumerate(runtime(images)):
            for name in wrapped.compared:
                one = (expected[name][i] if info.batched else expected[name]).numpy()
                if not one.size:
                    continue
                apart, value = np.abs(getattr(result, "score" if name == "box_score" else name) - one), np.abs(one)
                if name == "xy":
                    scale[name] = float(info.size)
                scale.setdefault(name, max(float(value.mean() if signs else value.max()), 1e-12))
                middle = np.mean if signs else np.median if name == "xy" and info.crop else np.max
                difference = float(middle(apart)) / scale[name]
                differences.append(difference if np.isfinite(difference) else np.inf)
            if isinstance(result, Boxes):  # torch's best boxes must all be found, in any order
                best = expected["boxes"][i, :20].numpy()
                differences.append(float(1 - box_iou(best, result.xyxy).max(1).min()))
    return float(np.median(differences) if signs else max(differences))


def export_weights(
    weights: str | Path,
    path: str | Path,
    network: str | None = None,
    options: dict[str, Any] | None = None,
    size: int | None = None,
    half: bool = True,
    opset: int = OPSET,
) -> float:
    """Load ``.safetensors`` of a training run into a new network and export it.

    Args:
        weights: file written by training, fp16 or fp32.
        path: ONNX file to write.
        network: name of the network; by default it and its options are read from the file.
        options: fields of its config.
        size: default longer side of the input; defaults to the size in training, or 512.
        half: store weights as fp16, see :func:`export_onnx`.
        opset: version of ONNX's operators.

    Returns:
        see :func:`parity`.

    Raises:
        ModelError: the file is not safetensors, belongs to another network or other options, holds values that are not
            finite, or does not name its network; or the size is out of range.
    """
    net, info = open_weights(weights, network, options, size)
    return export_onnx(net.eval(), info, path, half, opset)


def open_weights(
    weights: str | Path,
    network: str | None = None,
    options: dict[str, Any] | None = None,
    size: int | None = None,
) -> tuple[Network, ModelInfo]:
    """Build a network with the weights of a file, and its metadata; arguments and errors as :func:`export_weights`."""
    if network:
        default_head(network)  # raises for unknown names
    if not Path(weights).is_file():
        raise MissingFileError(f"{weights}: no such file; train first, or pass another file")
    try:
        with safe_open(weights, "pt") as file:
            metadata = file.metadata() or {}
    except SafetensorError as error:
        raise ModelError(f"{weights}: not a safetensors file of a finished training run ({error})") from error
    stored = json.loads(metadata["lithepose"]) if "lithepose" in metadata else {}
    info = ModelInfo.from_json(json.dumps(stored["info"])) if stored else None
    if not network and not info:
        raise ModelError(f"{weights}: does not name its network; pass --network and --options")
    if info and network in (None, info.name):
        known: dict[str, Any] = stored["options"] if options is None else options
        net = build(info.name, info.head, **{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})
    else:
        assert network is not None
        net = build(network, **(options or {}))
        info = describe(network, net)
    if info.crop:
        net.crop, net.small_crop = info.crop, info.small_crop
    load_weights(net, weights)
    bad = [name for name, tensor in net.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise ModelError(f"{weights}: {bad[0]} contains NaN or infinite values; the training has failed")
    if size is not None and (info.fixed_size or info.crop) and size != info.size:
        raise ModelError(f"size {size}: {info.name} only supports size {info.size}, which it was trained with")
    if size is not None:
        info = replace(info, size=size)
    if not 32 <= info.size <= 4096:
        raise ModelError(f"size {info.size}: the longer side of the network's input must be 32 to 4096 pixels")
    return net, info
