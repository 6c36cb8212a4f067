"""EfficientNet-Lite0 as a backbone, with ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..blocks import Depthwise
from ..weights import load_backbone, read_pretrained
from .mobilenet import EPS, counted_from_one

# Kernel, stride, channels and blocks of the seven groups. The expansion is 1 in the first group and 6 in the others.
GROUPS = ((3, 1, 16, 1), (3, 2, 24, 2), (5, 2, 40, 2), (3, 2, 80, 3), (5, 1, 112, 3), (5, 2, 192, 4), (3, 1, 320, 1))


class DepthwiseConv(Depthwise):
    """Depthwise convolution with any odd kernel; in fp32 under autocast on a CPU, see :class:`Depthwise`."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        nn.Conv2d.__init__(self, channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        self.in_fp32 = True


class InvertedBottleneck(nn.Module):
    """1x1 expansion, depthwise convolution and 1x1 projection, with an identity if the shape does not change."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        mid = c_in * expansion
        if expansion > 1:
            self.expand, self.expand_bn = nn.Conv2d(c_in, mid, 1, bias=False), nn.BatchNorm2d(mid, EPS)
        self.depthwise, self.depthwise_bn = DepthwiseConv(mid, kernel, stride), nn.BatchNorm2d(mid, EPS)
        self.project, self.project_bn = nn.Conv2d(mid, c_out, 1, bias=False), nn.BatchNorm2d(c_out, EPS)
        self.act = nn.ReLU6(inplace=True)
        self.expands, self.residual = expansion > 1, stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.expand_bn(self.expand(x))) if self.expands else x
        y = self.project_bn(self.project(self.act(self.depthwise_bn(self.depthwise(y)))))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 (Tan and Le 2019, without squeeze-and-excitation) up to its sixteenth block.

    Padding is symmetric at stride 2. TensorFlow's weights were trained with the odd pixel below and right; later layers
    learn to correct this shift.

    Output: features of (24, 40, 112, 320) channels at strides 4, 8, 16 and 32.
    """

    multiple = 32
    channels = (24, 40, 112, 320)
    mean, std = (127.0, 127.0, 127.0), (128.0, 128.0, 128.0)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.conv, self.stem.bn = nn.Conv2d(3, 32, 3, 2, 1, bias=False), nn.BatchNorm2d(32, EPS)
        self.stem.act = nn.ReLU6(inplace=True)
        self.blocks, c_in = nn.ModuleList(), 32
        for group, (kernel, stride, c_out, count) in enumerate(GROUPS):
            for i in range(count):
                block = InvertedBottleneck(c_in, c_out, kernel, 1 if i else stride, 6 if group else 1)
                self.blocks.append(block)
                c_in = c_out

    def forward(self, x: Tensor) -> list[Tensor]:
        x, features = self.stem(x), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (2, 4, 10, 15):  # the last block of each stride
                features.append(x)
        return features

    def load_imagenet(self, pretrained: str | Path) -> None:
        """Load ``stem.*`` and ``blocks.N.*`` (N from 1). The classifier is ignored.

        Raises:
            ConfigError: a tensor is missing, because the file belongs to another network.
        """
        state, ours = read_pretrained(pretrained), dict[str, Tensor]()
        for name in self.state_dict():
            key = counted_from_one(name)
            if name.endswith("num_batches_tracked"):
                ours[name] = torch.zeros((), dtype=torch.long)
            elif key in state:
                ours[name] = state[key]
            else:
                raise ConfigError(f"{pretrained}: no tensor {key!r}; pass the weights of an EfficientNet-Lite0")
        load_backbone(self, ours, pretrained)
