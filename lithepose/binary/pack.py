"""Packing of a trained binary_paf: a file of bits that does not need torch, and the ONNX of its real-valued part.

BatchNorm and sign become intervals. They are found by running torch's own BatchNorm: on every integer that a sum can
be, and by bisection over all floats if the input is real. So the packed signs are identical to torch's.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from safetensors.numpy import save_file
from torch import Tensor, nn

from ..errors import ModelError
from ..exporters.onnx import open_weights, parity, tidy, trace
from ..networks import Scaled
from ..networks.binary_paf import BinaryConv2d, BinaryPaf, MultiScaleModule
from ..runtime.torch import exported
from .bits import BinaryLayer
from .planes import Interval
from .runtime import PackedRuntime, metadata, tensors_of
from .stages import Branch, Chain, Skip, Stage

WORST = 0.05  # limit of the mean difference from torch, relative to the mean value; see parity


class FloatPart(nn.Module):
    """The real-valued part in the paper: pixels to [pafs, heatmaps, features] (N, C, H/8, W/8) of the first stage."""

    def __init__(self, net: BinaryPaf) -> None:
        super().__init__()
        self.net, self.scale = net, Scaled(net)

    def forward(self, image: Tensor) -> Tensor:
        """Run (N, H, W, 3) uint8 RGB."""
        backbone: Any = self.net.backbone
        features = self.net.cpm(backbone(self.scale(image.permute(0, 3, 1, 2)))[-1])
        heatmaps, pafs = self.net.stages[0](features)
        return torch.cat([pafs, heatmaps, features], 1)


def binary_layer(layer: BinaryConv2d) -> BinaryLayer:
    """Pack a layer; :class:`~lithepose.networks.binary_paf.BinaryConv2d` computes its signs and scales.

    Raises:
        ModelError: the layer also scales by its input, which cannot be packed.
    """
    weight, scale = layer.fixed()
    return BinaryLayer.from_weights(weight.numpy(), scale.numpy())


@torch.no_grad()
def float_interval(norm: Any) -> Interval:
    """Find where BatchNorm's output is at least 0, as an interval of its float input, exact to the last bit."""
    channels: int = norm.num_features

    def positive(key: np.ndarray) -> np.ndarray:
        value = torch.from_numpy(_float(key)).view(1, -1, 1, 1)
        return (norm(value) >= 0).view(-1).numpy()

    lowest, highest = (np.full(channels, _key(v), np.int64) for v in (-3.4028235e38, 3.4028235e38))
    below, above = positive(lowest), positive(highest)
    left, right = lowest.copy(), highest.copy()  # left always has the sign of the lowest, right that of the highest
    while (right - left > 1).any():
        middle = (left + right) // 2
        same = positive(middle) == below
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    low = np.where(below, -np.inf, np.where(above, _float(right), np.inf))
    high = np.where(above, np.inf, np.where(below, _float(left), -np.inf))
    return Interval(low.astype(np.float32), high.astype(np.float32))


def _key(value: float) -> int:
    """Return the rank of a float; 0 and -0 have the same."""
    bits = int(np.float32(value).view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)


def _float(key: np.ndarray) -> np.ndarray:
    bits = np.where(key >= 0, key, -key | -0x80000000).astype(np.int64)
    return bits.astype(np.uint32).view(np.float32)


@torch.no_grad()
def integer_interval(norm: Any, layer: BinaryLayer) -> Interval:
    """Find where BatchNorm's output is at least 0, as an interval of the sums of the binary layer before it."""
    most = layer.kernel**2 * layer.channels
    sums = torch.arange(-most, most + 1, dtype=torch.float32)
    positive = (norm((sums * torch.from_numpy(layer.scale)[:, None])[None, :, None]) >= 0)[0, :, 0].numpy()
    ever = positive.any(1)
    first, last = positive.argmax(1) - most, most - positive[:, ::-1].argmax(1)
    far = np.iinfo(np.int32)
    low = np.where(ever, np.where(first == -most, far.min, first), far.max)
    high = np.where(ever, np.where(last == most, far.max, last), far.min)
    return Interval(low.astype(np.int32), high.astype(np.int32))


def pack_chain(layers: list[nn.Sequential], joined: bool, skip: Any = None) -> Chain:
    """Pack consecutive pairs of BatchNorm and binary convolution; ``skip`` is a module's shortcut."""
    packed = [binary_layer(layer[1]) for layer in layers]  # pyright: ignore[reportArgumentType]
    between = [integer_interval(layer[0], before) for layer, before in zip(layers[1:], packed, strict=False)]
    around = None
    if isinstance(skip, nn.Sequential):
        parts: list[Any] = list(skip)
        norm, _, conv = parts
        variance, mean, gamma, beta = (
            t.detach().double().numpy() for t in (norm.running_var, norm.running_mean, norm.weight, norm.bias)
        )
        gain = gamma / np.sqrt(variance + norm.eps)
        weight = np.ascontiguousarray(conv.weight.detach()[:, :, 0, 0].numpy())
        around = Skip(gain.astype(np.float32), (beta - mean * gain).astype(np.float32), weight)
    return Chain(float_interval(layers[0][0]), tuple(packed), tuple(between), joined, around)


def pack_module(module: MultiScaleModule) -> Chain:
    """Pack a multi-scale module of binary layers."""
    return pack_chain([module.three, module.five, module.seven], True, module.skip)  # pyright: ignore[reportArgumentType]


def pack_branch(branch: nn.Sequential) -> Branch:
    """Pack one branch of a refinement stage: five large layers and two 1x1 layers."""
    layers: list[Any] = list(branch)
    *large, hidden, last = layers
    chains = (
        tuple(pack_module(module) for module in large)
        if isinstance(large[0], MultiScaleModule)
        else (pack_chain(large, False),)
    )
    pointwise = []
    for layer in (hidden[0], last[0]):
        weight, bias = layer.weight.detach()[:, :, 0, 0].numpy(), layer.bias.detach().numpy()
        pointwise.append((np.ascontiguousarray(weight), bias))
    return Branch(chains, tuple(pointwise))


def pack_stages(net: BinaryPaf) -> list[Stage]:
    """Pack the refinement stages of a network in evaluation mode.

    Raises:
        ModelError: the network has no binary layers, or some that cannot be packed.
    """
    if not isinstance(net, BinaryPaf) or net.config.layers == "float":
        raise ModelError("no binary layers to pack; use `lithepose export` without --to bits to write an .onnx")
    if net.config.stages < 2:
        raise ModelError("a network with one stage has nothing to pack; use `lithepose export` without --to bits")
    return [Stage(pack_branch(stage.limbs), pack_branch(stage.joints)) for stage in list(net.stages)[1:]]  # pyright: ignore


def pack(weights: str | Path, path: str | Path, half: bool = False, size: int | None = None) -> float:
    """Write the bits of trained weights and the ONNX of the real-valued part, and compare them with torch.

    Args:
        weights: ``.safetensors`` of a training run.
        path: ``.safetensors`` to write; the real-valued part has the same name and ``-float.onnx`` at its end.
        half: round the real-valued part's weights to fp16, for half its bytes. This comes after the comparison, because
            rounding flips signs.
        size: default longer side of the input; defaults to the size in training.

    Returns:
        The difference from torch: the median over images of noise of the mean difference relative to the mean value. A
        sign flipped by rounding in the real-valued part flips later signs.

    Raises:
        MissingFileError: the weights do not exist.
        ModelError: the weights cannot be packed, the size is out of range, or the output would overwrite the weights;
            nothing is written.
    """
    path = Path(path)
    net, info = open_weights(weights, size=size)
    if path.suffix != ".safetensors" or (path.exists() and path.samefile(weights)):
        raise ModelError(f"{path}: must be a .safetensors file other than the weights; choose another file")
    net.eval()
    try:
        stages = pack_stages(net)  # pyright: ignore[reportArgumentType]
    except ValueError as error:
        raise ModelError(f"{weights}: {error}") from error
    assert isinstance(net, BinaryPaf)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        bits, float_part = Path(folder) / path.name, Path(folder) / f"{path.stem}-float.onnx"
        trace(FloatPart(net).eval(), ["stage"], info.multiple, float_part)
        model = onnx.load(float_part)

        def write(half: bool) -> None:
            tidy(model, half)
            onnx.save(model, float_part)
            save_file(tensors_of(stages), bits, metadata(info, stages, float_part))

        write(half=False)
        difference = parity(exported(net).eval(), PackedRuntime(bits))
        if not difference < WORST:
            raise ModelError(
                f"{path}: not written; the packed network differs from torch by {difference}, more than rounding"
                " explains; please report this and attach the weights"
            )
        if half:
            write(half)
            PackedRuntime(bits)  # raises if it cannot be loaded
        for made in (float_part, bits):
            os.replace(made, path.with_name(made.name))
    return difference
