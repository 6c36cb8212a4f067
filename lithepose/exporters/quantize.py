"""Static quantization of an exported file: convolutions run in int8, except for sensitive ones.

The range of an activation is the part of its extremes over calibration inputs with the least squared error. The
sensitivity of each layer is measured: only this layer is quantized, and the network's outputs, before people are read
from them, are compared. This uses ONNX Runtime and, if installed, OpenVINO, which computes some layers wrongly. The
layers with the largest errors stay in float.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import helper

from ..errors import ConfigError, MissingFileError, ModelError
from ..runtime.base import ModelInfo
from .qdq import Layer, Range, ends_of, float_weights, layers_of, quantized, rounded, starts_of, together

Call = Callable[[np.ndarray], list[np.ndarray]]
COMPARED = 8  # inputs for measuring a layer's error
SHARE = 0.2  # limit on a layer's share of the sum of all squared errors; above it a layer stays in float
LEAST = 8  # fewest calibration inputs
DRAWN = 2000  # values of an activation per calibration input, by which its range is chosen
PARTS = np.linspace(1, 0.3, 24).tolist()  # of the extremes, to choose a range from


@dataclass(frozen=True)
class Quantization:
    """Result of :func:`quantize`.

    Attributes:
        layers: number of convolutions in int8.
        kept: names of the weights of convolutions that stay in float: first those at the network's input, then the most
            sensitive ones.
        alone: error of each measured convolution when only it is quantized, by name of its weights.
        error: root mean square of the change of the network's outputs, relative to their root mean square.
    """

    layers: int
    kept: tuple[str, ...]
    alone: dict[str, float]
    error: float


def quantize(
    path: str | Path, out: str | Path, inputs: Sequence[np.ndarray], share: float = SHARE, bits: int = 8
) -> Quantization:
    """Write a file with layers in int8 where possible.

    Args:
        path: ``.onnx`` written by ``lithepose export``, with weights in fp32 or fp16.
        out: file to write.
        inputs: calibration inputs of the network, each (H, W, 3) uint8 RGB: typical ones, but not those of the
            evaluation.
        share: limit on a layer's share of the sum of all squared errors in ONNX Runtime; above it, it stays in float.
        bits: bits of the weights. With 7, sums fit into 16 bits, for processors with AVX2 without VNNI, which saturate.

    Raises:
        MissingFileError: the file does not exist.
        ModelError: the file is not lithepose's, is already in int8, or has no convolution to quantize.
        ConfigError: there are too few inputs.
    """
    if len(inputs) < LEAST:
        raise ConfigError(f"{len(inputs)} inputs are too few for calibration; pass images of {LEAST} people or more")
    model, info = read_graph(path)
    layers = layers_of(model)
    convolutions = {name for name, layer in layers.items() if layer.kind == "Conv"}
    weights = {node.name: node.input[1] for node in model.graph.node if node.op_type == "Conv"}
    if not convolutions:
        raise ModelError(f"{path}: contains no convolution with its own weights, so no layer can run in int8")
    ends, ranges = ends_of(layers), _ranges(model, layers, inputs)
    starts = starts_of(layers, ranges) & convolutions
    some = [inputs[i] for i in np.linspace(0, len(inputs) - 1, COMPARED).astype(int)]
    expected = _run(model, ends, some)
    alone, total = dict[str, float](), 0.0
    for name in sorted(convolutions - starts):
        one = quantized(model, together(layers, {name}), ends, ranges, bits)
        alone[name] = _error(_run(one, ends, some), expected)
        total += alone[name] ** 2
        if find_spec("openvino"):  # not in the total, because one wrong layer would hide all others
            alone[name] = max(alone[name], _error(_run(one, ends, some, _openvino_of), expected))
    kept = sorted((name for name in alone if alone[name] ** 2 > share * total), key=lambda name: -alone[name])
    kept = sorted(starts) + kept
    result = quantized(model, together(layers, convolutions - set(kept)), ends, ranges, bits)
    error = _error(_run(result, ends, some), expected)
    helper.set_model_props(result, {"lithepose": replace(info, precision="int8").to_json()})
    onnx.save(result, str(out))
    by_weights = {weights[name]: value for name, value in alone.items()}
    return Quantization(len(convolutions) - len(kept), tuple(weights[name] for name in kept), by_weights, error)


def read_graph(path: str | Path) -> tuple[onnx.ModelProto, ModelInfo]:
    """Read a file's graph with fp32 weights, and its metadata; errors as in :func:`quantize`."""
    if not Path(path).is_file():
        raise MissingFileError(f"{path}: no such model file; `lithepose models` lists the embedded ones")
    try:
        model = onnx.load(path)
        metadata = {entry.key: entry.value for entry in model.metadata_props}
        info = ModelInfo.from_json(metadata["lithepose"])
    except KeyError as error:
        raise ModelError(f"{path}: ONNX file without lithepose's metadata; make one with `lithepose export`") from error
    except Exception as error:  # onnx raises protobuf's errors
        raise ModelError(f"{path}: not an ONNX file ({str(error).splitlines()[0]}); export or copy it again") from error
    if info.precision != "fp32":
        raise ModelError(f"{path}: already quantized to {info.precision}; pass the fp32 file instead")
    float_weights(model)
    return model, info


def _run(
    model: onnx.ModelProto, names: Sequence[str], inputs: Sequence[np.ndarray], of: Callable[..., Call] | None = None
) -> list[list[np.ndarray]]:
    """Return tensors of a graph by name, for each input, after quantization if they are quantized."""
    made = {name for node in model.graph.node for name in node.output}
    call = (of or _session_of)(model, [rounded(name) if rounded(name) in made else name for name in names])
    return [call(image[None]) for image in inputs]


def _session_of(model: onnx.ModelProto, names: Sequence[str]) -> Call:
    session = _session(model, names)
    return lambda images: [np.asarray(value) for value in session.run(list(names), {"image": images})]


def _openvino_of(model: onnx.ModelProto, names: Sequence[str]) -> Call:
    from ..runtime.openvino_core import core

    graph = core().read_model(model.SerializeToString(), b"")
    graph.add_outputs(list(names))
    compiled = core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})

    def call(images: np.ndarray) -> list[np.ndarray]:
        found = compiled({0: images})
        return [np.array(found[name]) for name in names]

    return call


def _session(model: onnx.ModelProto, names: Sequence[str]) -> onnxruntime.InferenceSession:
    """Make a session that also returns these tensors."""
    open_graph = onnx.ModelProto()
    open_graph.CopyFrom(model)
    there = {output.name for output in model.graph.output}
    open_graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "open.onnx"
        onnx.save(open_graph, file)
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _ranges(model: onnx.ModelProto, layers: dict[str, Layer], inputs: Sequence[np.ndarray]) -> dict[str, Range]:
    """Return the range of every activation for eight bits."""
    names = sorted({name for layer in layers.values() for name in (*layer.inputs, layer.output)})
    session, rng = _session(model, names), np.random.default_rng(0)
    low, high, drawn = np.zeros(len(names)), np.zeros(len(names)), [list[np.ndarray]() for _ in names]
    for image in inputs:
        values = [np.asarray(v, np.float32).ravel() for v in session.run(names, {"image": image[None]})]
        low, high = np.minimum(low, [v.min() for v in values]), np.maximum(high, [v.max() for v in values])
        for some, v in zip(drawn, values, strict=True):
            some.append(v[rng.integers(0, len(v), DRAWN)])
    found = zip(names, drawn, low, high, strict=True)
    return {name: _range(np.concatenate(some), float(a), float(b)) for name, some, a, b in found}


def _range(values: np.ndarray, low: float, high: float) -> Range:
    """Return the part of a range, around 0, in which eight bits store values with the least squared error."""

    def error(part: float) -> float:
        first, step = low * part, max((high - low) * part / 255, 1e-9)
        stored = np.clip(np.round((values - first) / step), 0, 255) * step + first
        return float(((stored - values) ** 2).mean())

    part = min(PARTS, key=error)
    return low * part, high * part


def _error(found: list[list[np.ndarray]], expected: list[list[np.ndarray]]) -> float:
    """Root of the mean over all tensors of squared difference relative to squared value."""
    shares = [
        float(((a - b) ** 2).sum() / max(float((b**2).sum()), 1e-12))
        for some, others in zip(found, expected, strict=True)
        for a, b in zip(some, others, strict=True)
    ]
    return float(np.sqrt(np.mean(shares)))
