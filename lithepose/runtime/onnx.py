"""ONNX Runtime, the default engine."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnxruntime

from ..arrays import UInt8
from ..errors import LitheposeError, MissingFileError, ModelError
from .base import ModelInfo, Output, run_batch
from .providers import check_session, providers_of

SPIN = 50  # microseconds


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_of(threads: int) -> str:
    """``1 thread``, ``2 threads``; 0 means one per core."""
    count = threads or cores()
    return f"{count} thread{'' if count == 1 else 's'}"


def open_session(path: str | Path, threads: int, device: str = "cpu") -> onnxruntime.InferenceSession:
    """Open a session. Between two operations its threads spin for :data:`SPIN` microseconds, then sleep.

    Waking a thread takes longer than the gap between two operations of a small network. Threads that spin longer would
    slow down other work, such as decoding and drawing a video. Between calls all threads sleep.

    Args:
        path: the ``.onnx`` file.
        threads: threads of one inference; 0 uses one per core.
        device: one of :data:`lithepose.runtime.providers.DEVICES`.

    Raises:
        ConfigError: the device is unknown.
        ModelError: the device is not available; there is no fallback to the CPU.
    """
    providers = providers_of(device)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.spin_duration_us", str(SPIN))
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.log_severity_level = 4  # no log output: errors are raised with their text
    session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    check_session(session, device)
    return session


class OnnxRuntime:
    """A network exported by ``lithepose export``.

    Args:
        path: the ``.onnx`` file.
        threads: threads of one inference; 0 uses one per core.
        device: one of :data:`lithepose.runtime.providers.DEVICES`.

    Raises:
        ConfigError: the device is unknown.
        MissingFileError: the file does not exist.
        ModelError: the file is not ONNX or was not written by lithepose; or the device is not available.

    Attributes:
        about: description of what runs.
    """

    def __init__(self, path: str | Path, threads: int = 0, device: str = "cpu") -> None:
        if not Path(path).is_file():
            raise MissingFileError(f"{path}: no such model file; `lithepose models` lists the embedded ones")
        self._made_from = str(path), threads, device
        try:
            self.session = open_session(path, threads, device)
            self.info = ModelInfo.from_json(self.session.get_modelmeta().custom_metadata_map["lithepose"])
        except LitheposeError:
            raise
        except KeyError as error:
            raise ModelError(
                f"{path}: ONNX file without lithepose's metadata; make one with `lithepose export`"
            ) from error
        except Exception as error:  # ONNX Runtime raises many types of its own
            why = str(error).splitlines()[0]
            raise ModelError(f"{path}: ONNX Runtime cannot load it ({why}); export or copy it again") from error
        self._names = [output.name for output in self.session.get_outputs()]
        self._single = self.session.get_inputs()[0].shape[0] == 1
        on = threads_of(threads) if device == "cpu" else device
        self.about = f"ONNX Runtime {onnxruntime.__version__}, {self.info.precision}, {on}"

    def __reduce__(self) -> tuple[type[OnnxRuntime], tuple[str, int, str]]:
        """Pickle the arguments, for worker processes, because a session belongs to its process."""
        return OnnxRuntime, self._made_from

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """Run a batch.

        Args:
            images: (N, H, W, 3) uint8 RGB, H and W multiples of ``info.multiple``.

        Returns:
            The network's prediction for each image.

        Raises:
            ModelError: the network does not support the size.
        """
        return run_batch(self.info, self._names, images, self._run, self._single)

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        try:
            return [np.asarray(array) for array in self.session.run(self._names, {"image": images})]
        except Exception as error:  # ONNX Runtime raises many types of its own
            line = str(error).splitlines()[0]
            raise ModelError(f"{self.info.name}: ONNX Runtime cannot run it at {images.shape[1:3]} ({line})") from error
