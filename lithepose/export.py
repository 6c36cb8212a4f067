"""Trained weights -> an ONNX file that needs nothing but its pixels."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from .decode import TOP
from .networks import JointRegression, KeypointRcnn, Network, Scaled, build, load_weights
from .runtime.onnx import FOUND, MAPS, ModelInfo, OnnxRuntime

OPSET = 18
WORST = 0.3  # a map value; trained networks differ by a thousandth, and by more where a sign flips


class Exported(nn.Module):
    """A network with its input scaling and its peaks: uint8 pictures in, what the decoder reads out.

    Outputs are named in :mod:`lithepose.runtime.onnx`: the last stage's maps and their peaks, or people.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net, self.scale = net, Scaled(net)
        self.kind = "boxes" if isinstance(net, KeypointRcnn) else "xy" if isinstance(net, JointRegression) else "maps"

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs."""
        if self.kind != "maps":
            return FOUND
        return MAPS if self.net.head.limbs else tuple(name for name in MAPS if name != "fields")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, 3) uint8 RGB -> maps (N, ...), peak_score (N, K, 64) and peak_cell (N, K, 64), or people."""
        x = self.scale(image.permute(0, 3, 1, 2))
        if self.kind == "boxes":
            people = self.net(x)[0]  # of one picture: N is 1
            return people["keypoints"][..., :2], torch.sigmoid(people["keypoints_scores"]), people["scores"]
        last = self.net(x)[-1]
        if self.kind == "xy":
            xy = last[0] * torch.tensor([image.shape[2], image.shape[1]]) - 0.5
            score = torch.ones_like(xy[..., 0])
            return xy[:, None], score[:, None], score[:, :1]
        heatmaps = last[0][:, : len(self.net.head.skeleton)]  # without the background
        top = nn.functional.max_pool2d(heatmaps, 3, 1, 1)
        peak = torch.where(heatmaps == top, torch.relu(heatmaps), torch.zeros_like(heatmaps))
        flat = peak.flatten(2)
        if (self.net.multiple // self.net.head.stride) ** 2 < TOP:  # the smallest map has fewer cells than peaks
            flat = nn.functional.pad(flat, (0, TOP))
        score, cell = torch.topk(flat, TOP, dim=2)
        return heatmaps, *last[1:], score, cell


def export_onnx(net: Network, info: ModelInfo, path: str | Path) -> float:
    """Write ``net`` as ONNX with fp16 weights and free batch, height and width, then compare the two.

    Weights are stored in half the bytes and cast to fp32 when the file is loaded: a plain CPU computes in fp32.

    Args:
        net: in evaluation mode, fp32.
        info: goes into the file's metadata.
        path: of the file to write.

    Returns:
        The largest difference from torch's, see :func:`parity`.

    Raises:
        ValueError: the difference is no rounding; nothing is written.
    """
    wrapped = Exported(net).eval()
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole.onnx"
        _trace(wrapped, info, whole)
        model = onnx.load(whole)
        helper.set_model_props(model, {"lithepose": info.to_json()})
        onnx.save(model, whole)
        # A rounded weight can swap two boxes of equal score, and then nothing can be compared: look before rounding.
        difference = parity(wrapped, whole, info) if wrapped.kind == "boxes" else None
        _halve(model)
        for node in model.graph.node:  # the exporter's notes name source files and lines
            del node.metadata_props[:]
            node.doc_string = ""
        onnx.checker.check_model(model)
        onnx.save(model, whole)
        difference = parity(wrapped, whole, info) if difference is None else difference
        if not difference < WORST:
            raise ValueError(f"{path}: not written; the exported graph differs from torch by {difference}")
        shutil.copyfile(whole, path)
    return difference


def _trace(wrapped: Exported, info: ModelInfo, path: Path) -> None:
    step, names = info.multiple, list(wrapped.names)
    if wrapped.kind == "boxes":
        # Proposals branch on data, which only the older exporter follows; torchvision has its operators for it.
        size = wrapped.net.config.size  # pyright: ignore[reportAttributeAccessIssue]
        example = torch.zeros(1, size, size, 3, dtype=torch.uint8)
        axes = {"image": {1: "height", 2: "width"}, **{name: {0: "people"} for name in names}}
        torch.onnx.export(
            wrapped,
            (example,),
            str(path),
            input_names=["image"],
            output_names=names,
            dynamic_axes=axes,
            opset_version=OPSET,
            dynamo=False,
        )
        return
    fixed = info.size if wrapped.kind == "xy" else 0
    example = torch.zeros(2, fixed or step * 3, fixed or step * 4, 3, dtype=torch.uint8)
    # _h and _w count multiples, so that the exporter sees that strides divide evenly.
    height, width = torch.export.Dim("_h", min=1, max=512), torch.export.Dim("_w", min=1, max=512)
    shapes: dict[int, Any] = {0: torch.export.Dim("batch", min=1)}
    if not fixed:
        shapes |= {1: step * height, 2: step * width}
    with torch.no_grad():
        program = torch.onnx.export(
            wrapped,
            (example,),
            input_names=["image"],
            output_names=names,
            dynamic_shapes={"image": shapes},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    program.save(str(path), external_data=False)


def _halve(model: onnx.ModelProto) -> None:
    """Store large fp32 initialisers as fp16 with a Cast, which ONNX Runtime folds away when it loads the file."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or int(np.prod(tensor.dims)) < 64:
            continue
        name = tensor.name
        rounded = numpy_helper.to_array(tensor).astype(np.float16)
        if not np.isfinite(rounded).all():
            raise ValueError(f"{name}: values beyond fp16's range; train with weight decay, or lower the rate")
        half = numpy_helper.from_array(rounded, f"{name}_half")
        tensor.CopyFrom(half)
        casts.append(helper.make_node("Cast", [half.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


@torch.no_grad()
def parity(wrapped: Exported, path: str | Path, info: ModelInfo) -> float:
    """Largest difference between torch and ONNX Runtime on seeded noise of several sizes, and for a batch.

    Returns:
        of map values, or of coordinates as shares of the input's longer side.
    """
    runtime, rng, worst, step = OnnxRuntime(path), np.random.default_rng(0), 0.0, info.multiple
    sizes, scale = [(1, step, step), (2, 3 * step, 2 * step), (1, 4 * step, 6 * step)], 1.0
    if wrapped.kind != "maps":
        sizes, scale = [(1 if info.single else 2, info.size, info.size)], float(info.size)
    for n, h, w in sizes:
        images = rng.integers(0, 256, (n, h, w, 3), np.uint8)
        expected = dict(zip(wrapped.names, wrapped(torch.from_numpy(images)), strict=True))
        for i, result in enumerate(runtime(images)):
            for name in expected.keys() & {"heatmaps", "fields", "xy"}:
                one = expected[name] if info.single else expected[name][i]
                difference = np.abs(getattr(result, name) - one.numpy()).max(initial=0) / scale
                worst = float(np.fmax(worst, difference) if np.isfinite(difference) else np.inf)
    return worst


def export_weights(
    weights: str | Path, network: str, options: dict[str, Any], path: str | Path, size: int | None = None
) -> float:
    """Load ``.safetensors`` of a training run into a fresh network and export it.

    Args:
        weights: as written by training, fp16 or fp32.
        network: name of the network.
        options: fields of its config.
        path: of the ONNX file to write.
        size: default longer side of the input; without one that of the network's options, if it has one, or 512.

    Returns:
        see :func:`parity`.

    Raises:
        ValueError: the file is no safetensors, or of another network or other options, or holds values that are no
            numbers; or the size is out of range.
    """
    net = build(network, **options)
    size = getattr(net.config, "size", 512) if size is None else size
    if not 32 <= size <= 4096:
        raise ValueError(f"size {size}: the longer side of the network's input must be 32 to 4096 pixels")
    load_weights(net, weights)
    bad = [name for name, tensor in net.state_dict().items() if not tensor.isfinite().all()]
    if bad:
        raise ValueError(f"{weights}: {bad[0]} holds values that are no numbers; the training has failed")
    info = ModelInfo(network, net.head, net.multiple, size, single=isinstance(net, KeypointRcnn))
    return export_onnx(net.eval(), info, path)
