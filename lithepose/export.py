"""Trained weights -> an ONNX file that needs nothing but its pixels."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .decode import TOP
from .networks import build
from .runtime.onnx import OUTPUTS, ModelInfo, OnnxRuntime

OPSET = 18


class Exported(nn.Module):
    """A network with its input normalisation and its peaks: uint8 pictures in, the last stage's maps and peaks out."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(N, H, W, 3) uint8 RGB -> heatmaps, fields, peak_score (N, K, 64) and peak_cell (N, K, 64)."""
        heatmaps, fields = self.net(image.permute(0, 3, 1, 2).float() / 127.5 - 1)[-1]
        top = nn.functional.max_pool2d(heatmaps, 3, 1, 1)
        peak = torch.where(heatmaps == top, torch.relu(heatmaps), torch.zeros_like(heatmaps))
        score, cell = torch.topk(peak.flatten(2), TOP, dim=2)
        return heatmaps, fields, score, cell


def export_onnx(net: nn.Module, info: ModelInfo, path: str | Path) -> float:
    """Write ``net`` as ONNX with fp16 weights and free batch, height and width, then compare the two.

    Weights are stored in half the bytes and cast to fp32 when the file is loaded: a plain CPU computes in fp32.

    Args:
        net: in evaluation mode, fp32.
        info: goes into the file's metadata.
        path: of the file to write.

    Returns:
        The largest difference of any heatmap or field value from torch's, over three input sizes.
    """
    wrapped = Exported(net).eval()
    step = info.multiple
    example = torch.zeros(2, step * 3, step * 4, 3, dtype=torch.uint8)
    # _h and _w count multiples, so that the exporter sees that strides divide evenly.
    height, width = torch.export.Dim("_h", min=1, max=64), torch.export.Dim("_w", min=1, max=64)
    shapes = {"image": {0: torch.export.Dim("batch", min=1), 1: step * height, 2: step * width}}
    with torch.no_grad():
        program = torch.onnx.export(
            wrapped,
            (example,),
            input_names=["image"],
            output_names=list(OUTPUTS),
            dynamic_shapes=shapes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        program.save(str(whole), external_data=False)
        model = onnx.load(whole)
    _halve(model)
    helper.set_model_props(model, {"lithepose": info.to_json()})
    for node in model.graph.node:  # the exporter's notes name source files and lines
        del node.metadata_props[:]
        node.doc_string = ""
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return parity(wrapped, path, step)


def _halve(model: onnx.ModelProto) -> None:
    """Store large fp32 initialisers as fp16 with a Cast, which ONNX Runtime folds away when it loads the file."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < 64:
            continue
        name = tensor.name
        half = numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), f"{name}_half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@torch.no_grad()
def parity(wrapped: Exported, path: str | Path, step: int) -> float:
    """Largest difference between torch and ONNX Runtime on seeded noise of several sizes, and for a batch."""
    runtime, rng, worst = OnnxRuntime(path), np.random.default_rng(0), 0.0
    for n, h, w in ((1, step, step), (2, 3 * step, 2 * step), (1, 4 * step, 6 * step)):
        images = rng.integers(0, 256, (n, h, w, 3), np.uint8)
        heatmaps, fields, _, _ = wrapped(torch.from_numpy(images))
        for i, maps in enumerate(runtime(images)):
            worst = max(worst, float(np.abs(maps.heatmaps - heatmaps[i].numpy()).max()))
            worst = max(worst, float(np.abs(maps.fields - fields[i].numpy()).max()))
    return worst


def export_weights(weights: str | Path, network: str, options: dict[str, Any], path: str | Path, size: int) -> float:
    """Load ``.safetensors`` of a training run into a fresh network and export it.

    Args:
        weights: as written by training, fp16 or fp32.
        network: name of the network.
        options: fields of its config.
        path: of the ONNX file to write.
        size: default longer side of the input.

    Returns:
        see :func:`export_onnx`.

    Raises:
        ValueError: the file is no safetensors, or of another network or other options.
    """
    net = build(network, **options)
    try:
        state = {name: tensor.float() for name, tensor in load_file(weights).items()}
    except SafetensorError as error:
        raise ValueError(f"{weights}: not a safetensors file ({error})") from error
    try:
        missing, unknown = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{weights}: other shapes than {network} with {options} ({error})") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise ValueError(f"{weights}: not weights of {network} with {options}; lacks {missing[:3]}, has {unknown[:3]}")
    return export_onnx(net.eval(), ModelInfo(network, net.head, net.multiple, size), path)
