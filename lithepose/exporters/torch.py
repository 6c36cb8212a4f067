"""Trained weights run by torch, with the inputs and outputs of an exported file."""

from __future__ import annotations

from pathlib import Path

import torch

from ..errors import ModelError
from ..runtime.torch import TorchRuntime
from .onnx import open_weights


def open_torch(weights: str | Path, threads: int = 0, device: str = "cpu") -> TorchRuntime:
    """Run the weights of a training run with torch.

    Args:
        weights: ``.safetensors``.
        threads: threads of torch in this process; 0 does not change them.
        device: cpu or cuda.

    Raises:
        ModelError: the file has no weights, or the device is not available.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ModelError(
            f"device cuda: torch {torch.__version__} found no CUDA device; available: cpu; to use a GPU, install"
            " a build of torch with CUDA and the GPU driver"
        )
    net, info = open_weights(weights)
    if threads:
        torch.set_num_threads(threads)
    runtime = TorchRuntime(net.to(device), info)
    runtime.about = f"torch {torch.__version__}, fp32, {device}"
    return runtime
