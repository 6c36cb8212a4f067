"""Model names and files -> runtimes."""

from __future__ import annotations

import logging
import platform
import tomllib
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from ..errors import ConfigError, MissingExtraError, MissingFileError, ModelError
from ..resources import WEIGHTS
from ..runtime.base import Runtime, about
from ..runtime.onnx import OnnxRuntime
from ..runtime.providers import Device, check_device

LOG = logging.getLogger(__name__)
RuntimeName = Literal["auto", "onnx", "openvino", "torch"]
Precision = Literal["", "fp32", "bf16", "int8"]
RUNTIMES: tuple[str, ...] = get_args(RuntimeName)
PRECISIONS: tuple[str, ...] = get_args(Precision)[1:]
X86 = "x86_64", "amd64", "i386", "i686", "x86"


def manifest() -> dict[str, dict[str, Any]]:
    """The embedded models by name, as written in ``weights/manifest.toml``."""
    return tomllib.loads((WEIGHTS / "manifest.toml").read_text(encoding="utf-8"))


def open_runtime(
    model: str | Path,
    threads: int = 0,
    runtime: RuntimeName | str = "auto",
    device: Device | str = "cpu",
    precision: Precision | str = "",
) -> Runtime:
    """Open a model.

    Args:
        model: name of an embedded model, or path of a file: ``.onnx`` or ``.xml`` from ``lithepose export``, or
            ``.safetensors`` from ``lithepose export --to bits`` or, for torch, from training.
        threads: threads of the network; 0 uses one per core.
        runtime: auto, onnx, openvino or torch. auto is OpenVINO on x86 CPUs if it is installed and can load the file,
            else ONNX Runtime.
        device: cpu, cuda, tensorrt, coreml or directml. A missing device is an error; the CPU is not used instead.
        precision: fp32, bf16 (OpenVINO) or int8 (an embedded model, or an int8 file). By default int8 for an int8 file,
            else fp32.

    Raises:
        ConfigError: unknown model, runtime, device or precision, an impossible combination of them, or a negative
            number of threads.
        MissingFileError: no such file.
        MissingExtraError: the runtime is not installed.
        ModelError: the file is not a model, or the device is missing.
    """
    if threads < 0:
        raise ConfigError(f"threads {threads}: must be 1 or more, or 0 for one per core")
    check_device(device)
    for name, value, known in (("runtime", runtime, RUNTIMES), ("precision", precision, ("", *PRECISIONS))):
        if value not in known:
            raise ConfigError(f"unknown {name} {value!r}; choose one of {', '.join(filter(None, known))}")
    path = _int8_file(model) if precision == "int8" and str(model) in manifest() else weights_file(model)
    if runtime == "torch":
        opened = _torch(path, threads, device, precision)
    elif path.suffix.lower() == ".safetensors":
        opened = _packed(path, threads, runtime, device, precision)
    else:
        opened = _graph(path, threads, runtime, device, precision)
    file_precision = opened.info.precision
    if precision and (precision == "int8") != (file_precision == "int8"):
        remedy = (
            "make an int8 file with `lithepose export --precision int8 --calibrate FOLDER`"
            if precision == "int8"
            else "omit the precision, or pass the file that it was made from"
        )
        raise ConfigError(f"precision {precision}: {model} is an {file_precision} model; {remedy}")
    LOG.info("%s: %s", model, about(opened))
    return opened


def _graph(path: Path, threads: int, runtime: str, device: str, precision: str) -> Runtime:
    """The runtime for an ``.onnx`` or ``.xml`` file."""
    only = "openvino" if path.suffix.lower() == ".xml" else "bf16" if precision == "bf16" else ""
    if only and (runtime == "onnx" or device != "cpu"):
        what = f"{path}: OpenVINO files run" if only == "openvino" else "precision bf16: runs"
        given = [f"--runtime {runtime}"] * (runtime == "onnx") + [f"--device {device}"] * (device != "cpu")
        raise ConfigError(f"{what} only in OpenVINO on the CPU; omit {' and '.join(given)}")
    if runtime == "openvino" and device != "cpu":
        raise ConfigError(f"device {device}: OpenVINO is supported only on the CPU; use --runtime onnx for {device}")
    if not (runtime == "openvino" or only or (runtime == "auto" and device == "cpu" and prefers_openvino())):
        return OnnxRuntime(path, threads, device)
    try:
        openvino = import_module("..runtime.openvino", __package__)  # its error names the extra
        return openvino.OpenVinoRuntime(path, threads, "bf16" if precision == "bf16" else "fp32")
    except (ModelError, MissingExtraError) as error:
        if runtime == "openvino" or only:
            raise
        LOG.info("%s; trying ONNX Runtime", error)
        return OnnxRuntime(path, threads, device)


def prefers_openvino() -> bool:
    """Whether ``auto`` is OpenVINO: on x86 processors, where it is installed."""
    return platform.machine().lower() in X86 and find_spec("openvino") is not None


def _packed(path: Path, threads: int, runtime: str, device: str, precision: str) -> Runtime:
    """The runtime for a network in bits.

    Raises:
        ConfigError: the file has the weights of a training run, or an option is given that networks in bits do not
            have.
        MissingExtraError: the extra ``binary`` is not installed.
    """
    if _trained(path):
        raise ConfigError(
            f"{path}: weights of a training run; add --runtime torch, or make an .onnx file with `lithepose export`"
            " (for binary_paf, a packed .safetensors with --to bits)"
        )
    if runtime != "auto" or device != "cpu" or precision:
        raise ConfigError(
            f"{path}: a network in bits runs only in its own runtime on the CPU; omit --runtime, --device and"
            " --precision, or use --runtime torch with the weights of the training run"
        )
    try:
        from ..binary.runtime import PackedRuntime
    except ImportError as error:  # it names the extra
        raise MissingExtraError(str(error), name=error.name) from error
    return PackedRuntime(path, threads)


def _trained(path: Path) -> bool:
    """Whether a ``.safetensors`` is from a training run; read without the library, which the base install lacks."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        return b'"lithepose"' in file.read(min(length, path.stat().st_size))


def _torch(path: Path, threads: int, device: str, precision: str) -> Runtime:
    """The runtime for the weights of a training run, or for those beside an embedded file."""
    if precision not in ("", "fp32"):
        raise ConfigError(f"precision {precision}: the torch runtime supports only fp32")
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"device {device}: the torch runtime supports only cpu and cuda")
    weights = path.with_suffix(".safetensors")
    if not weights.is_file():
        raise MissingFileError(
            f"{weights}: no such file, which the torch runtime needs; pass the .safetensors file of a training run, or"
            " choose another runtime"
        )
    try:
        # By name: the base install has no torch, and its modules import nothing that needs it.
        opener = import_module("..exporters.torch", __package__)
    except ImportError as error:
        raise MissingExtraError(
            f"the torch runtime needs {error.name}: pip install 'lithepose[train]' ({error})", name=error.name
        ) from error
    return opener.open_torch(weights, threads, device)


def _int8_file(model: str | Path) -> Path:
    """The embedded int8 file of a model.

    Raises:
        ConfigError: it has none.
    """
    known = manifest()
    entry = known[str(model)].get("int8")
    if entry is None:
        having = [name for name, entry in known.items() if "int8" in entry]
        raise ConfigError(
            f"precision int8: {model} has no embedded int8 file (available for: {', '.join(having) or 'none'}); make"
            f" one with `lithepose export {model} --precision int8 --calibrate FOLDER` and pass that file"
        )
    return WEIGHTS / entry["file"]


def weights_file(model: str | Path) -> Path:
    """The file of a model: embedded by name, or as given.

    Raises:
        ConfigError: it is neither.
    """
    known = manifest()
    if str(model) in known:
        return WEIGHTS / known[str(model)]["file"]
    if Path(model).suffix.lower() in (".onnx", ".safetensors", ".xml"):
        return Path(model)
    raise ConfigError(
        f"no embedded weights for model {str(model)!r}; choose one of {', '.join(known)}, or train a model and pass the"
        " .onnx file from `lithepose export` or the .safetensors file from `lithepose export --to bits`"
    )
