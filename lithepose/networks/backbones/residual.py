"""A backbone of residual blocks with dense 3x3 convolutions, which trains and runs fast on CPUs.

A multiply-add of a dense 3x3 convolution takes a third to a sixth of the time of one in a depthwise network. Depthwise
and 1x1 layers at high resolution, and their BatchNorm, are limited by memory bandwidth. Widths are multiples of 16, the
vector width of the CPU kernels.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...errors import ConfigError
from ..blocks import expanded_depthwise, folded_conv
from ..weights import load_backbone, read_pretrained


class ConvBn(nn.Sequential):
    """Convolution without bias, BatchNorm and an optional activation.

    If ``folded``, BatchNorm keeps its statistics during training and is folded into the convolution's weights: feature
    maps are read and written once, not three times. Scale and shift are still trained.
    """

    folded = False

    def forward(self, input: Tensor) -> Tensor:
        if not (self.folded and self.training):
            return super().forward(input)
        conv, norm = self[0], self[1]
        assert isinstance(conv, nn.Conv2d)
        x = folded_conv(conv, norm, input)
        return F.relu(x, inplace=True) if len(self) > 2 else x


def conv_bn(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, act: bool = True) -> ConvBn:
    """Convolution without bias, BatchNorm and, if ``act``, ReLU; keeps the size at stride 1."""
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return ConvBn(*layers, nn.ReLU(inplace=True)) if act else ConvBn(*layers)


class Residual(nn.Module):
    """Two 3x3 convolutions with an identity (He et al. 2016, basic block)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_bn(channels, channels)
        self.conv2 = conv_bn(channels, channels, act=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.conv2(self.conv1(x)))


class MultiScaleResidual(nn.Module):
    """Three chained 3x3 convolutions of C/2, C/4 and C/4 channels, concatenated (choi2018binarized, multi-scale)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.near, self.middle = conv_bn(channels, half), conv_bn(half, quarter)
        self.far = conv_bn(quarter, channels - half - quarter)

    def forward(self, x: Tensor) -> Tensor:
        near = self.near(x)
        middle = self.middle(near)
        return x + torch.cat([near, middle, self.far(middle)], 1)


class ExpandedDepthwiseResidual(nn.Module):
    """Two expanded depthwise separable convolutions with an identity (hoang2020rcnn)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.convs = nn.Sequential(*[expanded_depthwise(channels, channels, expansion=2) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        return x + self.convs(x)


class Branches(nn.Module):
    """3x3, 1x1 and identity in parallel, each with BatchNorm, summed (Ding et al. 2021, RepVGG).

    After training the branches can be merged into one 3x3 convolution.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv3 = conv_bn(channels, channels, act=False)
        self.conv1 = conv_bn(channels, channels, 1, act=False)
        self.identity = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv3(x) + self.conv1(x) + self.identity(x))


def branches_block(channels: int) -> nn.Sequential:
    """Two :class:`Branches`, as deep as one residual block."""
    return nn.Sequential(Branches(channels), Branches(channels))


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "residual": Residual,
    "multi_scale": MultiScaleResidual,
    "expanded_depthwise": ExpandedDepthwiseResidual,
    "branches": branches_block,
}


class ResidualBackbone(nn.Module):
    """Features at strides 4, 8, 16 and 32.

    Args:
        widths: channels of the stem (stride 2) and of the four levels.
        depths: blocks of the four levels, after the convolution with stride 2 that begins each level.
        block: key of :data:`BLOCKS`.

    Input (N, 3, H, W), H and W multiples of 32. Output: four tensors (N, widths[i + 1], H / s, W / s), s = 4, 8, 16
    and 32.
    """

    multiple = 32
    strides = (4, 8, 16, 32)
    mean = std = (127.5, 127.5, 127.5)  # RGB to [-1, 1]

    def __init__(self, widths: tuple[int, ...], depths: tuple[int, ...], block: str = "residual") -> None:
        super().__init__()
        if len(widths) != 5 or len(depths) != 4 or min(widths) < 4 or min(depths) < 0:
            raise ConfigError(
                f"widths={widths}, depths={depths}: must be five widths of 4 or more and four depths of 0 or more"
            )
        if block not in BLOCKS:
            raise ConfigError(f"unknown block={block!r}; choose one of {', '.join(BLOCKS)}")
        self.channels = widths[1:]
        self.stem = conv_bn(3, widths[0], stride=2)
        self.levels = nn.ModuleList(
            nn.Sequential(conv_bn(c_in, c_out, stride=2), *[BLOCKS[block](c_out) for _ in range(depth)])
            for c_in, c_out, depth in zip(widths[:-1], widths[1:], depths, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x, features = self.stem(x), []
        for level in self.levels:
            x = level(x)
            features.append(x)
        return features

    def load_imagenet(self, pretrained: str | Path) -> None:
        """Load the backbone of another lithepose network: the tensors ``backbone.*`` of its file.

        Raises:
            ConfigError: a tensor is missing or has another shape.
        """
        state = read_pretrained(pretrained)
        missing = [name for name in self.state_dict() if f"backbone.{name}" not in state]
        missing = [name for name in missing if not name.endswith("num_batches_tracked")]
        if missing:
            raise ConfigError(
                f"{pretrained}: no tensor backbone.{missing[0]}; the weights are for a different backbone"
            )
        zero = torch.zeros((), dtype=torch.long)
        load_backbone(self, {name: state.get(f"backbone.{name}", zero) for name in self.state_dict()}, pretrained)
