"""Base class of all networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

# Input scaling of OpenPose's weights and of networks that follow it (for BGR; converted weights take RGB).
PUBLISHED_MEAN, PUBLISHED_STD = (128.0, 128.0, 128.0), (256.0, 256.0, 256.0)
PUBLISHED_EPS = 1e-5  # epsilon of their BatchNorm


class Network(nn.Module):
    """A network of this package.

    Attributes:
        Config: dataclass of the options.
        config: the options.
        head: meaning of the outputs, see :mod:`lithepose.heads`.
        multiple: height and width of the input must be multiples of it.
        mean: mean of the three input channels, for pixel values of 0 to 255.
        std: standard deviation of the three input channels.
        crop: (height, width) of the input if it is a crop around one person, otherwise ().
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
    """Scale pixels for a network: (N, 3, H, W) of 0..255 to (x - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(net.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(net.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image.float() - self.mean) / self.std
