"""Names of devices, and the execution provider of ONNX Runtime for each."""

from __future__ import annotations

from typing import Literal, get_args

import onnxruntime

from ..errors import ConfigError, ModelError

Device = Literal["cpu", "cuda", "tensorrt", "coreml", "directml"]
DEVICES: tuple[str, ...] = get_args(Device)
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "directml": "DmlExecutionProvider",
}
REMEDIES = {
    "cuda": "run `pip uninstall onnxruntime`, then `pip install onnxruntime-gpu` with the CUDA and cuDNN that it needs",
    "tensorrt": "run `pip uninstall onnxruntime`, then `pip install onnxruntime-gpu`, and install TensorRT's libraries",
    "coreml": "run on macOS",
    "directml": "run `pip uninstall onnxruntime`, then `pip install onnxruntime-directml`, on Windows",
}


def check_device(device: str) -> None:
    """Check the name of a device.

    Raises:
        ConfigError: it is unknown; names the known ones.
    """
    if device not in DEVICES:
        raise ConfigError(f"unknown device {device!r}; choose one of {', '.join(DEVICES)}")


def providers_of(device: str) -> list[str]:
    """Return the execution providers to request from ONNX Runtime.

    Operators that a device lacks run on the CPU, which is ONNX Runtime's default.

    Raises:
        ConfigError: the device is unknown.
        ModelError: the installed ONNX Runtime lacks its provider.
    """
    check_device(device)
    provider, available = PROVIDERS[device], onnxruntime.get_available_providers()
    if provider not in available:
        raise _lacking(device, f"ONNX Runtime {onnxruntime.__version__} does not include {provider}")
    return [provider] if device == "cpu" else [provider, PROVIDERS["cpu"]]


def check_session(session: onnxruntime.InferenceSession, device: str) -> None:
    """Check that a session runs on its device. ONNX Runtime uses the CPU if a device's libraries do not load.

    Raises:
        ModelError: it does not; names the device and the remedy.
    """
    if PROVIDERS[device] not in session.get_providers():
        raise _lacking(device, f"{PROVIDERS[device]} is installed, but does not start")


def _lacking(device: str, why: str) -> ModelError:
    known = {provider: name for name, provider in PROVIDERS.items()}
    here = ", ".join(known[p] for p in onnxruntime.get_available_providers() if p in known)
    return ModelError(
        f"device {device}: {why}; available: {here}; to use it, {REMEDIES.get(device, 'reinstall ONNX Runtime')}"
    )
