"""Conversion of an exported ONNX file to other precisions, fixed sizes and other programs' formats."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper

from ..errors import ConfigError, MissingExtraError, ModelError
from ..heads.outputs import Output
from ..networks import Network
from ..runtime.base import ModelInfo, to_output
from ..runtime.torch import exported
from .onnx import tidy
from .quantize import read_graph


def rewrite(path: str | Path, out: str | Path, half: bool, fixed: tuple[int, int] | None = None) -> None:
    """Write an ONNX file with weights in another precision, or with a fixed input size.

    Args:
        path: ``.onnx`` written by ``lithepose export``; a file in int8 keeps its weights.
        out: file to write.
        half: store weights as fp16, and cast them in the graph.
        fixed: height and width of its inputs; the batch size is then one.

    Raises:
        ModelError: the file does not exist.
        ConfigError: the network does not support the size.
    """
    model = onnx.load(path)
    info = ModelInfo.from_json({entry.key: entry.value for entry in model.metadata_props}["lithepose"])
    if info.precision == "fp32":
        model, _ = read_graph(path)
        tidy(model, half)
    if fixed:
        check_fixed(info, fixed)
        for value, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, *fixed, 3), strict=True):
            value.dim_value = size
        del model.graph.value_info[:]  # of dynamic sizes
        if info.crop:
            info = replace(info, crop=fixed, small_crop=(), size=max(fixed))
    helper.set_model_props(model, {"lithepose": info.to_json()})
    onnx.save(model, str(out))


def check_fixed(info: ModelInfo, fixed: tuple[int, int]) -> None:
    """Check that a network supports a size.

    Raises:
        ConfigError: it does not; names the valid sizes.
    """
    sizes = [info.crop, info.small_crop] if info.crop else [(info.size, info.size)] if info.fixed_size else []
    if sizes and fixed not in sizes:
        takes = " and ".join("x".join(map(str, size)) for size in sizes if size)
        raise ConfigError(f"--fixed {fixed[0]}x{fixed[1]}: {info.name} only supports {takes}")
    if min(fixed) < 1 or fixed[0] % info.multiple or fixed[1] % info.multiple:
        raise ConfigError(f"--fixed {fixed[0]}x{fixed[1]}: height and width must be multiples of {info.multiple}")


def to_openvino(path: str | Path, out: Path, half: bool) -> None:
    """Write an ONNX file as OpenVINO's ``.xml`` and ``.bin``.

    Args:
        path: ``.onnx`` written by ``lithepose export``.
        out: ``.xml`` to write.
        half: store weights as fp16.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ModelError: OpenVINO cannot read the network.
    """
    try:
        from ..runtime.openvino_core import core, openvino
    except ImportError as error:
        raise MissingExtraError(
            f"--to openvino needs {error.name}: pip install 'lithepose[openvino]' ({error})", name=error.name
        ) from error
    with_metadata = {entry.key: entry.value for entry in onnx.load(path).metadata_props}["lithepose"]
    try:
        model = core().read_model(str(path))
    except RuntimeError as error:
        raise ModelError(f"{path}: OpenVINO cannot read it ({str(error).strip().splitlines()[-1]})") from error
    model.set_rt_info(with_metadata, ["lithepose"])
    openvino.save_model(model, str(out), compress_to_fp16=half)


def to_torchscript(net: Network, info: ModelInfo, out: Path, fixed: tuple[int, int]) -> None:
    """Trace a network with its input scaling and peaks, for programs with libtorch.

    Args:
        net: network with its weights.
        info: stored in the file, as ``lithepose.json``.
        out: ``.pt`` to write.
        fixed: height and width of its inputs, which a trace cannot change.

    Raises:
        ConfigError: the network does not support the size.
    """
    check_fixed(info, fixed)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch recommends its own formats
        traced: Any = torch.jit.trace(exported(net.eval()), torch.zeros(1, *fixed, 3, dtype=torch.uint8), strict=False)
        torch.jit.save(traced, str(out), _extra_files={"lithepose.json": info.to_json()})


class ScriptRuntime:
    """Runs the file written by :func:`to_torchscript`, for comparisons.

    Args:
        path: the ``.pt`` file.
        info: description of the network.
        names: names of its outputs.
    """

    about = "torchscript, fp32"

    def __init__(self, path: Path, info: ModelInfo, names: tuple[str, ...]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.script, self.info, self.names = torch.jit.load(str(path)), info, names

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> list[Output]:
        """Run (1, H, W, 3) uint8 RGB; returns the network's prediction."""
        outputs = self.script(torch.from_numpy(images))
        batched = zip(*outputs, strict=True) if self.info.batched else [outputs]
        return [to_output({n: t.numpy() for n, t in zip(self.names, one, strict=True)}) for one in batched]
