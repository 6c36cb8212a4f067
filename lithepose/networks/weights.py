"""Weights: of earlier trainings, and pretrained backbones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..resources import WEIGHTS


def load_front(front: nn.Module, state: dict[str, Tensor], start: str | Path) -> None:
    """Load tensors that have the right names.

    Raises:
        ValueError: their shapes are not.
    """
    try:
        front.load_state_dict(state)
    except RuntimeError as error:
        raise ValueError(f"{start}: of another width ({str(error).splitlines()[-1].strip()})") from error


def read_start(start: str | Path) -> dict[str, Tensor]:
    """Tensors of a pretrained network.

    Args:
        start: a ``.safetensors`` file, ``torchvision:NAME`` or ``timm:NAME`` for that package's own ImageNet weights,
            downloaded at the first use, or ``embedded:NAME`` for those of an embedded model (of the source tree; an
            installed package has them as ONNX alone).

    Raises:
        ImportError: the package that is named is not installed.
        FileNotFoundError: no such file.
        ValueError: a file that is no safetensors.
    """
    package, _, name = str(start).partition(":")
    if package == "torchvision" and name:
        from torchvision.models import get_model_weights  # pyright: ignore[reportMissingImports]

        weights: Any = get_model_weights(name)
        return weights.DEFAULT.get_state_dict(progress=True, check_hash=True, weights_only=True)
    if package == "timm" and name:
        import timm  # pyright: ignore[reportMissingImports]

        try:
            return timm.create_model(name, pretrained=True).state_dict()
        except RuntimeError as error:
            raise ValueError(f"{start}: {error}") from error
    file = WEIGHTS / f"{name}.safetensors" if package == "embedded" else Path(start)
    if not file.is_file():
        names = "torchvision:NAME, timm:NAME or, in the source tree, embedded:NAME"
        raise FileNotFoundError(f"{start}: no such file; give a .safetensors, {names}")
    try:
        return {name: tensor.float() for name, tensor in load_file(file).items()}
    except SafetensorError as error:
        raise ValueError(f"{start}: not a safetensors file ({error})") from error


def find_module(net: nn.Module, name: str) -> nn.Module:
    """A module of a network, by a name as ``stages.0.heatmaps``.

    Raises:
        ValueError: there is none of that name; tells which there are.
    """
    module, found = net, "the network"
    for step in name.split("."):
        children = dict(module.named_children())
        if step not in children:
            raise ValueError(f"no module {name!r}; {found} has {', '.join(children) or 'none'}")
        module, found = children[step], step if module is net else f"{found}.{step}"
    return module


def load_weights(net: nn.Module, path: str | Path, reinit: tuple[str, ...] = ()) -> None:
    """Load ``.safetensors`` of a training run, fp16 or fp32, into a network.

    Args:
        net: the network.
        path: the file.
        reinit: names of modules that stay as they are, whether the file has them or not.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors, or of another network, other options or other joints.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights; train first, or name another file")
    try:
        state = {name: tensor.float() for name, tensor in load_file(path).items() if not _within(name, reinit)}
        missing, unknown = net.load_state_dict(state, strict=False)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        said = f"{path}: weights of other options or joints ({line})"
        raise ValueError(f"{said}; a recipe may reinit what does not fit") from error
    left_out = "num_batches_tracked", "calibration"  # files of before they were known have none
    missing = [name for name in missing if not (name.endswith(left_out) or _within(name, reinit))]
    if missing or unknown:
        raise ValueError(f"{path}: weights of another network; lacks {missing[:3]}, has {unknown[:3]}")


def _within(name: str, modules: tuple[str, ...]) -> bool:
    return any(name.startswith(f"{module}.") for module in modules)
