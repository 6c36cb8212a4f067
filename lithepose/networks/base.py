"""What all networks have in common."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# OpenPose's weights and those of networks that followed it take pixels so (of BGR; their conversion turns the order).
PUBLISHED_MEAN, PUBLISHED_STD = (128.0, 128.0, 128.0), (256.0, 256.0, 256.0)
PUBLISHED_EPS = 1e-5  # of their BatchNorm


class Network(nn.Module):
    """A network of this package.

    Attributes:
        Config: dataclass of its options.
        config: the options.
        head: what its outputs mean, see :mod:`lithepose.heads`.
        multiple: height and width of its input are multiples of it.
        mean: of the three input channels, subtracted from pixel values of 0 to 255.
        std: by which the rest is divided.
        crop: (height, width) of its input, if that is a crop around one person; else ().
        small_crop: likewise, for people followed in videos.
    """

    Config: Any
    config: Any
    head: Any
    multiple: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: tuple[int, ...] = ()
    small_crop: tuple[int, ...] = ()


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
