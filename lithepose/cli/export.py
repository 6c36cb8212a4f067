"""lithepose export"""

from __future__ import annotations

import logging
import shutil
import tempfile
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError, MissingFileError, ModelError
from .calls.console import OK, missing, out_console
from .calls.files import check_output, keep_inputs, parse_options

if TYPE_CHECKING:
    import numpy as np

    from ..exporters.quantize import Quantization
    from ..runtime.base import Runtime

SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "torchscript": ".pt", "bits": "-packed.safetensors"}
CALIBRATED = 300  # inputs for calibration
# Largest median distance of joints or corners from those of the source, in pixels of the network's input. Above it,
# nothing is written.
LIMITS = {"fp32": 0.1, "fp16": 0.5, "int8": 3.0}
MISSED = 0.1  # largest share of the source's joints or boxes that the file may miss


def export(
    model: str,
    /,
    to: Literal["onnx", "openvino", "torchscript", "bits"] = "onnx",
    network: str | None = None,
    options: str | None = None,
    out: Path | None = None,
    precision: Literal["fp32", "fp16", "int8"] | None = None,
    calibrate: Path | None = None,
    check: Path | None = None,
    opset: int | None = None,
    fixed: tuple[int, int] | None = None,
    half: bool = False,
    size: int | None = None,
) -> int:
    """Write trained weights or an exported model as a file that runs without torch, in another precision or format.

    Prints the distances of its joints or boxes from those of the source. If they differ by more than rounding explains,
    nothing is written.

    Examples:
        lithepose export runs/mine/weights.safetensors
        lithepose export weights.safetensors --out mine.onnx --size 384
        lithepose export weights.safetensors --to bits --half

    Args:
        model: .safetensors of a training run, .onnx that this command wrote, or name of an embedded model.
        to: onnx, for any network; openvino (.xml and .bin); torchscript, for one input size; or bits, for binary_paf:
            one bit per binary weight (needs the extra binary to run).
        network: name of the network, for .safetensors. Default: the one in the weights file.
        options: options of the network, as json. Default: those in the weights file, or none.
        out: file to write. Default: next to the weights, or in this folder for an embedded model. For bits it is a
            .safetensors; the real-valued part is written next to it as ...-float.onnx.
        precision: fp16 or fp32 weights, both computed in fp32; or int8, with --calibrate. Default: fp16, or fp32 for
            torchscript.
        calibrate: folder of images with people, on which the ranges of int8 are measured. Do not use evaluation
            images.
        check: folder of images for the comparison, in addition to the embedded ones.
        opset: ONNX operator set version, for .safetensors.
        fixed: height and width of the input, if the file must accept only this size, one image at a time.
        half: for bits, round the weights of the real-valued part to fp16, as --to onnx does.
        size: longer side of the model's default input. Default: the size of its training, else 512.
    """
    bits = to == "bits"
    trained = Path(model).suffix.lower() == ".safetensors"
    asked = parse_options(options) if options else None
    _check(to, model, trained, precision, calibrate, opset, fixed, half, _named(network, options, size))
    try:
        if bits:
            from ..binary import pack  # noqa: F401
        else:
            from ..exporters import formats  # noqa: F401
    except ImportError as error:
        raise missing("export --to bits" if bits else "export", "train,binary" if bits else "train", error) from error
    if Path(model).suffix.lower() in (".onnx", ".safetensors") and not Path(model).is_file():
        raise MissingFileError(
            f"{model}: no such file; pass a .safetensors or .onnx file, or the name of an embedded model"
        )
    path = out or _default_path(model, trained, to, precision)
    check_output(path, "--out")
    if not bits:
        if path.suffix.lower() != SUFFIXES[to]:
            raise ConfigError(f"--out {path}: must end with {SUFFIXES[to]} for --to {to}")
        keep_inputs(path, "--out", (Path(model),))
    logging.getLogger("torch").setLevel(logging.ERROR)  # the exporter logs too much
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if bits:
            return _pack(Path(model), path, size, half)
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.onnx"
            if trained:
                from ..exporters.onnx import OPSET, export_weights

                keep = precision in (None, "fp16")  # the rounded file is compared with torch
                apart = export_weights(model, source, network, asked, size, half=keep, opset=opset or OPSET)
                out_console.print(f"{model}: largest difference from torch's outputs {apart:.1e}", highlight=False)
            else:
                from ..inference.models import open_runtime

                file = _onnx_file(model)
                stored = open_runtime(file, runtime="onnx").info.precision  # raises if it is not a model
                if stored == "int8" and precision:
                    raise ConfigError(f"{model}: already quantized to int8; pass the fp32 file instead")
                precision = "int8" if stored == "int8" else precision
                shutil.copyfile(file, source)
            _convert(
                source,
                path,
                to,
                precision or ("fp32" if to == "torchscript" else "fp16"),
                calibrate,
                check,
                fixed,
                model,
                (network, asked, size),
            )
    return OK


def _convert(
    source: Path,
    path: Path,
    to: str,
    precision: str,
    calibrate: Path | None,
    check: Path | None,
    fixed: tuple[int, int] | None,
    model: str,
    described: tuple[str | None, dict[str, Any] | None, int | None],
) -> None:
    """Convert an ONNX file to a precision and format, and compare the two files.

    Raises:
        ModelError: they differ by more than rounding explains.
    """
    from ..exporters.formats import rewrite, to_openvino
    from ..exporters.quantize import quantize
    from ..inference.parity import images_in, network_inputs, parity, sample_images
    from ..runtime.base import about
    from ..runtime.onnx import OnnxRuntime

    reference, made = OnnxRuntime(source), source.with_name(f"made{SUFFIXES[to]}")
    plain, info = source.with_name("plain.onnx"), reference.info
    inputs = network_inputs(info, sample_images(check))
    if calibrate:
        done = quantize(source, plain, network_inputs(info, images_in(calibrate), CALIBRATED))
        _tell(done)
    else:
        rewrite(source, plain, precision == "fp16")
    if fixed:
        rewrite(plain, plain, precision == "fp16", fixed)
        inputs = [image for image in inputs if image.shape[:2] == fixed]
    others: list[Runtime]
    if to == "onnx":
        plain.rename(made)
        others = [OnnxRuntime(made), *([_openvino(made)] if precision == "int8" and find_spec("openvino") else [])]
    elif to == "openvino":
        to_openvino(plain, made, precision == "fp16")
        others = [_openvino(made)]
    else:
        script, inputs = _script(model, made, fixed, inputs, described)
        others = [script]
    lines = list[str]()
    for other in others:
        apart = parity(reference, other, inputs)
        if apart.missed > MISSED or (apart.points and not apart.median <= LIMITS[precision]):
            raise ModelError(
                f"{path}: not written; its joints differ from those of {model} ({about(other)}) by more than rounding:"
                f" {apart}"
            )
        lines.append(f"{apart} ({about(other)})" if apart.points else "no people found; add images with --check")
    size = sum(file.stat().st_size for file in source.parent.glob(f"{made.stem}.*")) / 1e6
    for file in source.parent.glob(f"{made.stem}.*"):
        shutil.copyfile(file, path.with_suffix(file.suffix))
    out_console.print(f"{path}: {size:.1f} MB, {precision}; distances from {model}:", highlight=False, markup=False)
    for line in lines:
        out_console.print(f"  {line}", highlight=False, markup=False)


def _openvino(path: Path) -> Runtime:
    from ..runtime.openvino import OpenVinoRuntime

    return OpenVinoRuntime(path)


def _script(
    model: str,
    made: Path,
    fixed: tuple[int, int] | None,
    inputs: list[np.ndarray],
    described: tuple[str | None, dict[str, Any] | None, int | None],
) -> tuple[Runtime, list[np.ndarray]]:
    """A TorchScript trace of a model, and the inputs that it accepts."""
    from ..exporters.formats import ScriptRuntime, to_torchscript
    from ..exporters.onnx import open_weights
    from ..runtime.torch import exported

    weights = (
        Path(model) if Path(model).suffix.lower() == ".safetensors" else _onnx_file(model).with_suffix(".safetensors")
    )
    if not weights.is_file():
        raise MissingFileError(f"{weights}: no such file; --to torchscript needs the .safetensors of a training run")
    net, info = open_weights(weights, *described)
    fixed = fixed or (inputs[0].shape[0], inputs[0].shape[1])
    to_torchscript(net, info, made, fixed)
    inputs = [image for image in inputs if image.shape[:2] == fixed]
    return ScriptRuntime(made, info, exported(net).names), inputs


def _tell(done: Quantization) -> None:
    """Print how many layers run in int8, what it changes, and the layers that stay in float."""
    kept = ", ".join(done.kept) or "none"
    out_console.print(
        f"int8: {done.layers} layers, which change the network's outputs by {done.error:.1%}; in float: {kept}",
        highlight=False,
    )


def _pack(weights: Path, path: Path, size: int | None, half: bool) -> int:
    from ..binary.pack import pack

    difference = pack(weights, path, size=size, half=half)
    float_part = path.with_name(f"{path.stem}-float.onnx")
    megabytes = f"{path.stat().st_size / 1e6:.1f} MB, its real-valued part {float_part.stat().st_size / 1e6:.1f} MB"
    out_console.print(f"{path}: {megabytes}, typical difference from torch {difference:.1e}")
    return OK


def _check(
    to: str,
    model: str,
    trained: bool,
    precision: str | None,
    calibrate: Path | None,
    opset: int | None,
    fixed: tuple[int, int] | None,
    half: bool,
    described: str,
) -> None:
    """Refuse options that cannot be combined.

    Raises:
        ConfigError: there are such options; the message names them.
    """
    if to == "bits" and (precision or calibrate or opset or fixed or not trained):
        raise ConfigError("--to bits: needs a .safetensors file, and only --out, --half and --size can be used with it")
    if half and to != "bits":
        raise ConfigError("--half: only works with --to bits; use --precision instead")
    if (precision == "int8") != bool(calibrate):
        raise ConfigError(
            "--precision int8 and --calibrate FOLDER must be used together; the ranges are measured on images of FOLDER"
        )
    if to == "torchscript" and precision not in (None, "fp32"):
        raise ConfigError(f"--precision {precision}: --to torchscript only supports fp32; use --to onnx or openvino")
    if not trained and (described or opset):
        given = described or f"--opset {opset}"
        raise ConfigError(f"{model}: {given} only works with the .safetensors of a training run")


def _named(network: str | None, options: str | None, size: int | None) -> str:
    """The options that are given, as on the command line."""
    given = {"network": network, "options": options, "size": size}
    return " ".join(f"--{name} {value}" for name, value in given.items() if value)


def _onnx_file(model: str) -> Path:
    """The file of an embedded model, or the path as given.

    Raises:
        ConfigError: it is not an ``.onnx`` file.
    """
    from ..inference.models import WEIGHTS, manifest

    known = manifest()
    path = WEIGHTS / known[model]["file"] if model in known else Path(model)
    if path.suffix.lower() != ".onnx":
        raise ConfigError(
            f"{model}: not an .onnx written by lithepose export; pass such a file, the .safetensors of a training run,"
            f" or the name of an embedded model: {', '.join(known)}"
        )
    return path


def _default_path(model: str, trained: bool, to: str, precision: str | None) -> Path:
    beside = Path(model) if trained or Path(model).suffix.lower() == ".onnx" else Path(f"{model}.onnx")
    stem = beside.stem if precision != "int8" else f"{beside.stem}-int8"
    path = beside.with_name(f"{stem}{SUFFIXES[to]}")
    return path if trained or path != beside else beside.with_name(f"{stem}-{precision or 'fp16'}.onnx")
