"""OpenVINO, for x86 processors; uses the same files as ONNX Runtime."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import UInt8
from ..errors import ConfigError, MissingExtraError, MissingFileError, ModelError

try:
    from .openvino_core import core, openvino
except ImportError as error:
    raise MissingExtraError(
        f"the openvino runtime needs {error.name}: pip install 'lithepose[openvino]' ({error})", name=error.name
    ) from error

from .base import ModelInfo, Output, run_batch
from .onnx import cores, threads_of

PRECISIONS = {"fp32": "f32", "bf16": "bf16"}  # for layers that are not int8, with OpenVINO's names
SUFFIXES = ".onnx", ".xml"
OFTEN = 64  # calls after which a shape gets its own graph
KEPT = 4  # number of such graphs per network


class OpenVinoRuntime:
    """Runs a network exported by ``lithepose export`` with OpenVINO on the CPU.

    It is compiled once for inputs of all shapes. After :data:`OFTEN` calls a shape is compiled separately. This takes
    as long as loading, and saves a tenth to a fifth of every further call.

    Args:
        path: the ``.onnx`` file, or an ``.xml`` with its ``.bin``.
        threads: threads of one inference; 0 uses one per core. They are not bound to cores, so that two networks do
            not wait for the same core.
        precision: fp32, or bf16, which takes half the time on processors that support it. int8 layers of a file always
            run in int8.

    Raises:
        ConfigError: the precision is unknown.
        MissingFileError: the file does not exist.
        ModelError: the file is not a model or was not written by lithepose, or the processor lacks the precision.

    Attributes:
        about: description of what runs.
    """

    def __init__(self, path: str | Path, threads: int = 0, precision: str = "fp32") -> None:
        if precision not in PRECISIONS:
            raise ConfigError(f"precision {precision!r}: must be one of {', '.join(PRECISIONS)} for OpenVINO")
        if not Path(path).is_file():
            raise MissingFileError(f"{path}: no such model file; `lithepose models` lists the embedded ones")
        if Path(path).suffix.lower() not in SUFFIXES:
            raise ModelError(f"{path}: must be an .onnx or .xml file; make one with `lithepose export`")
        self._made_from = str(path), threads, precision
        self._core = core()
        if precision == "bf16" and "BF16" not in self._core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise ModelError("precision bf16: not supported by this processor; omit it or use int8")
        threads = threads or cores()
        # All options are set: by default the processor decides the precision, and threads are bound to cores.
        self._options = {
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
            "ENABLE_CPU_PINNING": False,
        }
        try:
            self._model = self._core.read_model(str(path))
            self.info = ModelInfo.from_json(_metadata(self._model))
            compiled = self._core.compile_model(self._model, "CPU", self._options)
        except KeyError as error:
            raise ModelError(f"{path}: model without lithepose's metadata; make one with `lithepose export`") from error
        except Exception as error:  # OpenVINO raises RuntimeErrors of many lines
            raise ModelError(f"{path}: OpenVINO cannot load it ({_cause(error)}); use --runtime onnx") from error
        self._names = [output.get_any_name() for output in self._model.outputs]
        self._fixed = self._model.inputs[0].partial_shape.is_static
        self._request, self._lock = compiled.create_infer_request(), threading.Lock()
        self._own: dict[tuple[int, ...], Any] = {}
        self._calls: dict[tuple[int, ...], int] = {}
        used = {text: name for name, text in (*PRECISIONS.items(), ("fp32", "float32"), ("bf16", "bfloat16"))}
        kept = used.get(compiled.get_property("INFERENCE_PRECISION_HINT").to_string(), "another precision")
        self.precision = self.info.precision if self.info.precision == "int8" else kept
        rest = f" with {kept}" if self.precision == "int8" else ""
        self.about = f"OpenVINO {openvino.__version__.split('-')[0]}, {self.precision}{rest}, {threads_of(threads)}"

    def __reduce__(self) -> tuple[type[OpenVinoRuntime], tuple[str, int, str]]:
        """Pickle the arguments, for worker processes."""
        return OpenVinoRuntime, self._made_from

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """Run a batch.

        Args:
            images: (N, H, W, 3) uint8 RGB, H and W multiples of ``info.multiple``.

        Returns:
            The network's prediction for each image.

        Raises:
            ModelError: the network does not support the size.
        """
        images, step = np.ascontiguousarray(images), self.info.multiple
        if images.shape[1] % step or images.shape[2] % step:
            size = "x".join(map(str, images.shape[1:3]))
            raise ModelError(f"{self.info.name}: cannot run at {size}; height and width must be multiples of {step}")
        with self._lock:  # a request has only one input and one output
            return run_batch(self.info, self._names, images, self._run, single=self._fixed)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            found = self._request_for(images.shape).infer({0: images}, share_inputs=True)
        except Exception as error:  # OpenVINO raises RuntimeErrors of many lines
            size = "x".join(map(str, images.shape[1:3]))
            raise ModelError(f"{self.info.name}: OpenVINO cannot run it at {size} ({_cause(error)})") from error
        return [found[i] for i in range(len(self._names))]

    def _request_for(self, shape: tuple[int, ...]) -> Any:
        """Return the request of a frequent shape, or the one for all shapes."""
        if shape in self._own:
            return self._own[shape]
        self._calls[shape] = self._calls.get(shape, 0) + 1
        if self._calls[shape] < OFTEN or len(self._own) >= KEPT or self._fixed:
            return self._request
        model = self._model.clone()
        model.reshape(list(shape))
        self._own[shape] = self._core.compile_model(model, "CPU", self._options).create_infer_request()
        return self._own[shape]


def _metadata(model: openvino.Model) -> str:
    """Return lithepose's metadata in the file.

    Raises:
        KeyError: there is none.
    """
    for where in (["lithepose"], ["framework", "lithepose"]):  # in an .xml, and in an .onnx
        if model.has_rt_info(where):
            return model.get_rt_info(where).astype(str)
    raise KeyError("lithepose")


def _cause(error: Exception) -> str:
    """Return the line of a message that names the cause; earlier lines name OpenVINO's own source files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in reversed(lines) if not line.startswith(("Exception from", "Check"))), "unknown")
