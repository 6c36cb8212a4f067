"""OpenPose (Cao et al. 2017), the baseline of choi2018binarized and huang2019mln.

With VGG-19 it has the paper's 52,298,816 convolution weights and needs 159.6 G multiply-adds at 368x432.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.pafs import OPENPOSE_HEAD, PafHead
from .backbones import make_backbone
from .base import Network
from .blocks import check_size, conv, gaussian_


@dataclass(frozen=True)
class OpenPoseConfig:
    """Options of the network; the defaults are the paper's."""

    stages: int = 6
    backbone: str = "vgg19"  # or mobilenet_v1, dilated to stride 8


class Branches(nn.Module):
    """Two branches of the same form over the same input: limbs to pafs, joints to heatmaps."""

    def __init__(self, make: Callable[[int], nn.Module], head: PafHead) -> None:
        super().__init__()
        heatmaps, pafs = head.channels
        self.limbs, self.joints = make(pafs), make(heatmaps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.joints(x), self.limbs(x)


def seven_by_seven(c_in: int, c_out: int) -> nn.Module:
    """The 7x7 convolution of stages 2 to 6: what choi2018binarized replaces."""
    return conv(c_in, c_out, 7)


class OpenPose(Network):
    """Part affinity fields, refined stage by stage.

    Args:
        config: sizes.
        head: what the maps mean.
        layer: makes the large layers of the refinement stages from (channels in, channels out).

    Input (N, 3, H, W), RGB by the backbone's ``mean`` and ``std``, H and W multiples of 8. Output: one (heatmaps
    (N, 19, H/8, W/8), pafs (N, 38, H/8, W/8)) a stage, the last one the best; heatmap 18 is the background.
    """

    Config: type[Any] = OpenPoseConfig

    def __init__(
        self,
        config: Any = None,
        head: PafHead = OPENPOSE_HEAD,
        layer: Callable[[int, int], nn.Module] = seven_by_seven,
    ) -> None:
        super().__init__()
        self.config = config = config or self.Config()
        if config.stages < 1:
            raise ConfigError(f"{config.stages} stages; there must be at least 1")
        self.head, self.multiple = head, 8
        self.backbone = make_backbone(config.backbone)
        self.mean, self.std = self.backbone.mean, self.backbone.std
        self.cpm = nn.Sequential(conv(512, 256), conv(256, 128))

        def first(c_out: int) -> nn.Module:
            return nn.Sequential(
                conv(128, 128), conv(128, 128), conv(128, 128), conv(128, 512, 1), conv(512, c_out, 1, act=False)
            )

        def refine(c_out: int) -> nn.Module:
            large = [layer(128 + sum(head.channels), 128), *[layer(128, 128) for _ in range(4)]]
            return nn.Sequential(*large, conv(128, 128, 1), conv(128, c_out, 1, act=False))

        self.stages = nn.ModuleList([Branches(first, head)])
        self.stages.extend(Branches(refine, head) for _ in range(config.stages - 1))
        gaussian_(self.cpm)
        gaussian_(self.stages)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        check_size(x, self.multiple)
        features = self.cpm(self.backbone(x)[-1])
        inputs, maps = features, []
        for stage in self.stages:
            heatmaps, pafs = stage(inputs)
            maps.append((heatmaps, pafs))
            inputs = torch.cat([pafs, heatmaps, features], 1)
        return maps
