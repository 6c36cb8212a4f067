"""Networks, one paper a file, and the one table that names them."""

from __future__ import annotations

from typing import Any

import torch
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
    try:
        return network(network.Config(**options))
    except TypeError as error:
        raise ValueError(f"{name}: {error}") from error


class Scaled(nn.Module):
    """Pixels -> what a network was trained with: (N, 3, H, W) of 0..255 to (x - mean) / std."""

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(net.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(net.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image.float() - self.mean) / self.std
