"""Networks, one paper a file, and the one table that names them."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .binary_paf import BinaryPaf
from .context_cpm import ContextCpm
from .keypoint_rcnn import KeypointRcnn
from .lithe import Lithe
from .multilevel import Multilevel
from .openpose import OpenPose
from .split_stream import JointRegression, SplitStream

NETWORKS = {
    "lithe": Lithe,
    "openpose": OpenPose,
    "binary_paf": BinaryPaf,
    "multilevel": Multilevel,
    "context_cpm": ContextCpm,
    "split_stream": SplitStream,
    "joint_regression": JointRegression,
    "keypoint_rcnn": KeypointRcnn,
}

Network = Lithe | OpenPose | Multilevel | ContextCpm | SplitStream | JointRegression | KeypointRcnn


def build(name: str, **options: Any) -> Network:
    """Make a network by name; ``options`` are the fields of its config.

    Raises:
        ValueError: no such network or option, or an option's value that it does not have.
        ImportError: keypoint_rcnn without torchvision.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    known = [field.name for field in fields(network.Config)]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; there are {', '.join(known)}")
    try:
        return network(network.Config(**options))
    except (RuntimeError, TypeError) as error:  # torch's words for sizes that make no tensor
        raise ValueError(f"{name} with {options}: {error}") from error


def load_imagenet(net: Network, start: str | Path) -> None:
    """Give a network's front its ImageNet start; see :func:`lithepose.networks.backbones.read_start`.

    Raises:
        ValueError: the start is another network's than the front.
    """
    (net if isinstance(net, KeypointRcnn) else net.front).load_imagenet(start)


def load_weights(net: nn.Module, path: str | Path) -> None:
    """Load ``.safetensors`` of a training run, fp16 or fp32, into a network.

    Raises:
        FileNotFoundError: no such file.
        ValueError: the file is no safetensors, or of another network or other options.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path}: no such weights; train first, or name another file")
    try:
        state = {name: tensor.float() for name, tensor in load_file(path).items()}
        missing, unknown = net.load_state_dict(state, strict=False)
    except SafetensorError as error:
        raise ValueError(f"{path}: not a safetensors file ({error})") from error
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise ValueError(f"{path}: weights of other options ({line})") from error
    missing = [name for name in missing if not name.endswith("num_batches_tracked")]
    if missing or unknown:
        raise ValueError(f"{path}: weights of another network; lacks {missing[:3]}, has {unknown[:3]}")


class Scaled(nn.Module):
    """Pixels -> what a network was trained with: (N, 3, H, W) of 0..255 to (x - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(net.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(net.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image.float() - self.mean) / self.std
