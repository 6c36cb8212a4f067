"""Conversion of public checkpoints, with a comparison of every layer to the checkpoint's own tensors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ..errors import ModelError
from ..exporters.onnx import describe
from ..networks import Network, build
from ..networks.backbones.vgg import VGG19
from ..networks.keypoint_rcnn import KeypointRcnn
from .names import SOURCES, Names, Source

BACKBONES: dict[str, Callable[[], Any]] = {"vgg19": VGG19, "mobilenet_v3": KeypointRcnn}
"""ImageNet weights of torchvision's networks, by the name that ``lithepose convert --to`` takes."""

INPUT = 64  # height and width of the image for comparing layers
FEW = 4  # number of boxes
LIMIT = 1e-4  # largest difference, relative to a layer's largest output


@dataclass(frozen=True)
class Converted:
    """A converted checkpoint.

    Attributes:
        net: network with the weights.
        options: options of the network.
        layers: number of compared layers.
        difference: largest difference, relative to a layer's largest output.
    """

    net: Network
    options: dict[str, Any]
    layers: int
    difference: float


def convert(state: Mapping[str, Tensor], to: str, path: str | Path) -> Converted:
    """Load the tensors of a checkpoint into one of lithepose's networks.

    Args:
        state: tensors by their public names.
        to: key of :data:`names.SOURCES`.
        path: their source, for error messages.

    Raises:
        ModelError: a layer is missing, has another shape, or computes something else; names the first one. Or the file
            has tensors that no layer uses.
    """
    source = SOURCES[to]
    state = {re.sub(r"^model\d(_\d)?\.(?=M?conv)", "", name): tensor for name, tensor in state.items()}
    options = source.options(state)
    net, names = build(source.network, **options), source.layers(options)
    ours, taken = dict[str, Tensor](), set[str]()
    for name, own in net.state_dict().items():
        layer, _, kind = name.rpartition(".")
        if kind == "num_batches_tracked":
            ours[name] = own
            continue
        public = _find(state, names[layer], kind)
        if public is None:
            raise ModelError(f"{path}: no tensor {names[layer]}.{kind}; the file is truncated or not {source.about}")
        tensor = state[public].float()
        if tensor.shape != own.shape:
            shapes = f"{'x'.join(map(str, tensor.shape))}, expected {'x'.join(map(str, own.shape))}"
            raise ModelError(f"{path}: {public} has shape {shapes}; the file is not {source.about}")
        taken.add(public)
        ours[name] = tensor.flip(1) if layer == source.stem and kind == "weight" else tensor
    left = [name for name in state if name not in taken and not re.search(source.beside, name)]
    if left:
        raise ModelError(
            f"{path}: {to} has no layer for {left[0]} and {len(left) - 1} more tensors; the file is not {source.about}"
        )
    net.load_state_dict(ours)
    compared = compare(net.eval(), state, names, source)
    worst = max(compared, key=lambda layer: compared[layer])
    if not compared[worst] <= LIMIT:
        first = next(layer for layer, apart in compared.items() if not apart <= LIMIT)
        raise ModelError(
            f"{path}: {names[first]} computes other values after the conversion (difference {compared[first]:.1e})"
        )
    return Converted(net, options, len(compared), compared[worst])


def _find(state: Mapping[str, Tensor], layer: str, kind: str) -> str | None:
    """Find the name of a tensor; newer versions of torchvision put some layers into lists."""
    names = (f"{layer}{nested}.{kind}" for nested in ("", ".0", ".0.0"))
    return next((name for name in names if name in state), None)


def compare(net: nn.Module, state: Mapping[str, Tensor], names: Names, source: Source) -> dict[str, float]:
    """Compare every layer's output with that of the checkpoint's tensors for the same input.

    Returns:
        layers in the order of execution, each with its largest difference relative to its largest output.
    """
    found: dict[str, float] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def compared(layer: nn.Module, given: tuple[Tensor, ...], output: Tensor) -> None:
            if not output.numel():
                return
            x = given[0].flip(1) if name == source.stem else given[0]
            tensors = {kind: state[public].float() for kind in KINDS if (public := _find(state, names[name], kind))}
            apart = (output - _computed(layer, x, tensors)).abs().max() / output.abs().max().clamp(min=1e-12)
            found[name] = max(found.get(name, 0.0), float(apart))

        return compared

    modules = dict(net.named_modules())
    hooks = [modules[name].register_forward_hook(hook(name)) for name in names]
    image = torch.randn(1, 3, INPUT, INPUT, generator=torch.Generator().manual_seed(0))
    with _every_layer_runs(net), torch.inference_mode():
        net(image)
    for each in hooks:
        each.remove()
    return found


@contextmanager
def _every_layer_runs(net: nn.Module) -> Iterator[None]:
    """Temporarily pass a few boxes of any score to a detector's heads, on a small image, without in-place activations.

    An in-place activation would change the output seen by the hook of the layer before it.
    """
    inplace: list[Any] = [module for module in net.modules() if getattr(module, "inplace", False)]
    for module in inplace:
        module.inplace = False
    detector: Any = getattr(net, "detector", None)
    changed: list[tuple[Any, str, Any]] = []
    if detector is not None:
        transform, heads = detector.transform, detector.roi_heads
        changed = [(transform, "min_size", (INPUT,)), (transform, "max_size", INPUT)]
        changed += [(heads, "score_thresh", 0.0), (heads, "detections_per_img", FEW)]
    kept = [(owner, name, getattr(owner, name)) for owner, name, _ in changed]
    for owner, name, value in changed:
        setattr(owner, name, value)
    yield
    for owner, name, value in kept:
        setattr(owner, name, value)
    for module in inplace:
        module.inplace = True


KINDS = "weight", "bias", "running_mean", "running_var"


def _computed(layer: nn.Module, x: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    weight, bias = tensors["weight"], tensors.get("bias")
    if isinstance(layer, nn.ConvTranspose2d):
        stride, around = (tuple(int(v) for v in pair) for pair in (layer.stride, layer.padding))
        return F.conv_transpose2d(x, weight, bias, stride, around)
    if isinstance(layer, nn.Conv2d):
        padding: Any = layer.padding
        return F.conv2d(x, weight, bias, layer.stride, padding, layer.dilation, layer.groups)
    if isinstance(layer, nn.Linear):
        return F.linear(x, weight, bias)
    eps: Any = layer.eps
    return F.batch_norm(x, tensors["running_mean"], tensors["running_var"], weight, bias, eps=eps)


def save(converted: Converted, to: str, out: Path) -> None:
    """Write the weights in fp32, with the metadata to build their network."""
    info = describe(SOURCES[to].network, converted.net)
    stored = {"info": json.loads(info.to_json()), "options": converted.options}
    tensors = {name: tensor.contiguous() for name, tensor in converted.net.state_dict().items()}
    beside = out.with_name(f"{out.name}.tmp")
    save_file(tensors, beside, {"lithepose": json.dumps(stored)})
    beside.replace(out)


def save_backbone(state: dict[str, Tensor], to: str, path: Path, out: Path) -> int:
    """Write a backbone's tensors under their own names, for ``pretrained`` in a recipe.

    Returns:
        the number of tensors.

    Raises:
        ConfigError: a layer is missing; names it.
        ModelError: a layer has another shape.
    """
    beside = out.with_name(f"{path.name}.safetensors.tmp")
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, beside)
    try:
        BACKBONES[to]().load_imagenet(beside)
    except BaseException:
        beside.unlink()
        raise
    beside.replace(out)
    return len(state)
