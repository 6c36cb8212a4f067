"""choi2018binarized: part affinity fields with binarized multi-scale modules in place of 7x7 convolutions.

One network with three fillings of the large layers: ``binary`` (the paper's proposal), ``float`` (the same modules
unbinarized) and ``binary7`` (the 7x7 layers merely binarized, which the paper shows to fail). Float stays whatever the
paper does not name: front, first stage, 1x1 layers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ..skeleton import OPENPOSE_HEAD, Head
from .binary_conv import BinaryConv2d
from .openpose import OpenPose


@dataclass(frozen=True)
class BinaryPafConfig:
    """Options of the network; the last three are those of :class:`~lithepose.networks.binary_conv.BinaryConv2d`."""

    layers: str = "binary"  # binary, float or binary7
    stages: int = 6  # the paper gives no number; OpenPose's
    front: str = "vgg19"  # or mobilenet_v1, dilated to stride 8
    centred: bool = False
    gradient: str = "autograd"
    input_scale: bool = False


def binarized(c_in: int, c_out: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """BatchNorm, sign, binary convolution; no ReLU, which would leave one sign only."""
    return nn.Sequential(nn.BatchNorm2d(c_in), BinaryConv2d(c_in, c_out, kernel, **options))


def preactivated(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """BatchNorm, ReLU, convolution without bias."""
    return nn.Sequential(
        nn.BatchNorm2d(c_in), nn.ReLU(inplace=True), nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    )


class MultiScaleModule(nn.Module):
    """Three 3x3 layers in a chain, which see 3, 5 and 7 cells, side by side and added to the input.

    Bulat and Tzimiropoulos (2017); widths are half, a quarter and a quarter of the output. Where the input has another
    width the shortcut is BatchNorm, ReLU and a float 1x1 convolution.
    """

    def __init__(self, c_in: int, c_out: int, layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.three = layer(c_in, c_out // 2)
        self.five = layer(c_out // 2, c_out // 4)
        self.seven = layer(c_out // 4, c_out // 4)
        self.skip = nn.Identity() if c_in == c_out else preactivated(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.three(x)
        five = self.five(three)
        return torch.cat([three, five, self.seven(five)], 1) + self.skip(x)


def large_layer(kind: str, **options: Any) -> Callable[[int, int], nn.Module]:
    """What stands where OpenPose has a 7x7 convolution.

    Args:
        kind: binary, float or binary7.
        options: of :class:`~lithepose.networks.binary_conv.BinaryConv2d`.

    Raises:
        ValueError: no such kind.
    """
    bits = partial(binarized, **options)
    kinds: dict[str, Callable[[int, int], nn.Module]] = {
        "binary": lambda c_in, c_out: MultiScaleModule(c_in, c_out, bits),
        "float": lambda c_in, c_out: MultiScaleModule(c_in, c_out, preactivated),
        "binary7": lambda c_in, c_out: bits(c_in, c_out, 7),
    }
    if kind not in kinds:
        raise ValueError(f"no layers {kind!r}; there are {', '.join(kinds)}")
    return kinds[kind]


class BinaryPaf(OpenPose):
    """OpenPose with the chosen large layers; inputs and outputs as :class:`~lithepose.networks.openpose.OpenPose`.

    14,250,366 parameters, of which 5.40 M are binary weights; at 368x656 98.7 G multiply-adds, 20.4 G of them binary
    (with VGG-19 and six stages).
    """

    Config = BinaryPafConfig

    def __init__(self, config: BinaryPafConfig | None = None, head: Head = OPENPOSE_HEAD) -> None:
        config = config or BinaryPafConfig()
        options = {"centred": config.centred, "gradient": config.gradient, "input_scale": config.input_scale}
        super().__init__(config, head, large_layer(config.layers, **options))
        # OpenPose's 0.01 is for layers without scaling. Those without a bias are the binary ones; their output is
        # mean |W| times a sum, and the float ones behind a BatchNorm: with 0.01 both would fade beside the skip.
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight)
