"""Weights of earlier training runs, and pretrained backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import MissingExtraError, MissingFileError, ModelError
from ..resources import WEIGHTS


def load_backbone(backbone: nn.Module, state: dict[str, Tensor], pretrained: str | Path) -> None:
    """Load tensors by name.

    Args:
        backbone: the backbone to load them into.
        state: all tensors of the backbone.
        pretrained: their source, for the error message.

    Raises:
        ModelError: a tensor's shape differs from the backbone's.
    """
    try:
        backbone.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(
            f"{pretrained}: weights of a different width ({str(error).splitlines()[-1].strip()})"
        ) from error


def read_pretrained(pretrained: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a pretrained network.

    Args:
        pretrained: a ``.safetensors`` file; ``torchvision:NAME`` or ``timm:NAME`` for that package's ImageNet weights,
            downloaded on first use; or ``embedded:NAME`` for the weights of an embedded model (only in the source tree;
            an installed package has embedded models only as ONNX).

    Raises:
        MissingExtraError: the named package is not installed.
        MissingFileError: no such file.
        ModelError: the file is not safetensors.
    """
    package, _, name = str(pretrained).partition(":")
    if package == "torchvision" and name:
        try:
            from torchvision.models import get_model_weights  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError(f"{pretrained} needs torchvision: pip install torchvision ({error})") from error
        try:
            weights: Any = get_model_weights(name)
        except ValueError as error:
            raise ModelError(f"{pretrained}: torchvision has no such model ({error})") from error
        return weights.DEFAULT.get_state_dict(progress=True, check_hash=True, weights_only=True)
    if package == "timm" and name:
        try:
            import timm  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError(f"{pretrained} needs timm: pip install timm ({error})") from error
        try:
            return timm.create_model(name, pretrained=True).state_dict()
        except RuntimeError as error:
            raise ModelError(f"{pretrained}: {error}") from error
    file = WEIGHTS / f"{name}.safetensors" if package == "embedded" else Path(pretrained)
    if package == "embedded" and not file.is_file():
        there = ", ".join(sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))) or "none"
        raise MissingFileError(
            f"{pretrained}: no such embedded weights; available: {there}. An installed package contains only ONNX"
            " files: install a copy of the source tree with pip install -e"
        )
    if not file.is_file():
        names = "torchvision:NAME, timm:NAME or, in the source tree, embedded:NAME"
        raise MissingFileError(f"{pretrained}: no such file; pass a .safetensors file, {names}")
    try:
        return read_tensors(file)
    except SafetensorError as error:
        raise ModelError(f"{pretrained}: not a safetensors file ({error})") from error


def read_tensors(path: str | Path) -> dict[str, Tensor]:
    """Read the tensors of a ``.safetensors`` file as fp32, under the networks' current names.

    Raises:
        SafetensorError: the file is not safetensors.
    """
    return {_current_name(name): tensor.float() for name, tensor in load_file(path).items()}


def _current_name(name: str) -> str:
    """Convert the name of a tensor or module in files of version 0.1 to its current name."""
    parts = name.split(".")
    parts[0] = {"front": "backbone"}.get(parts[0], parts[0])
    if parts[0] == "stages":
        parts = ["pafs" if part == "fields" else part for part in parts]
    return ".".join(parts)


def find_module(net: nn.Module, name: str) -> nn.Module:
    """Find a module of a network by a name such as ``stages.0.heatmaps``.

    Raises:
        ModelError: there is no module of that name; names the existing ones.
    """
    module, found = net, "the network"
    for part in _current_name(name).split("."):
        children = dict(module.named_children())
        if part not in children:
            raise ModelError(f"no module {name!r}; available in {found}: {', '.join(children) or 'none'}")
        module, found = children[part], part if module is net else f"{found}.{part}"
    return module


def load_weights(net: nn.Module, path: str | Path, reinit: tuple[str, ...] = ()) -> None:
    """Load ``.safetensors`` of a training run, fp16 or fp32, into a network.

    Args:
        net: the network.
        path: the file.
        reinit: names of modules to skip, whether the file has them or not.

    Raises:
        MissingFileError: no such file.
        ModelError: the file is not safetensors, or belongs to another network, other options or other joints.
    """
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such weights; train first, or choose another file")
    try:
        state = {name: tensor for name, tensor in read_tensors(path).items() if not _within(name, reinit)}
        missing, unknown = net.load_state_dict(state, strict=False)
    except SafetensorError as error:
        raise ModelError(f"{path}: not a safetensors file ({error})") from error
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"{path}: weights for other options or joints ({line}); set reinit in the recipe to modules that do not fit"
        ) from error
    left_out = "num_batches_tracked", "calibration"  # older files lack these
    missing = [name for name in missing if not (name.endswith(left_out) or _within(name, reinit))]
    if missing or unknown:
        raise ModelError(f"{path}: weights of a different network; missing {missing[:3]}, unexpected {unknown[:3]}")


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{_current_name(module)}.") for module in modules)
