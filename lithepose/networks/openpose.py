"""OpenPose (Cao et al. 2017), the baseline of choi2018binarized and huang2019mln, and its lightweight form.

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
from .backbones.mobilenet import MobileNetV1
from .base import PUBLISHED_EPS, PUBLISHED_MEAN, PUBLISHED_STD, Network
from .blocks import Refinement, check_size, conv, gaussian_


@dataclass(frozen=True)
class OpenPoseConfig:
    """Options of the network; the defaults are the paper's."""

    stages: int = 6
    backbone: str = "vgg19"  # or mobilenet_v1, dilated to stride 8
    published: bool = False  # input scaled by (x - 128) / 256, as for the authors' weights


class Branches(nn.Module):
    """Two branches of the same form on the same input: limbs to pafs, joints to heatmaps."""

    def __init__(self, make: Callable[[int], nn.Module], head: PafHead) -> None:
        super().__init__()
        heatmaps, pafs = head.channels
        self.limbs, self.joints = make(pafs), make(heatmaps)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.joints(x), self.limbs(x)


def seven_by_seven(c_in: int, c_out: int) -> nn.Module:
    """The 7x7 convolution of stages 2 to 6, which choi2018binarized replaces."""
    return conv(c_in, c_out, 7)


class OpenPose(Network):
    """OpenPose: part affinity fields and heatmaps, refined stage by stage.

    Args:
        config: sizes.
        head: meaning of the outputs.
        layer: function of (channels in, channels out) that makes the large layers of the refinement stages.

    Input (N, 3, H, W), RGB scaled by the backbone's ``mean`` and ``std``, H and W multiples of 8. Output: one (heatmaps
    (N, 19, H/8, W/8), pafs (N, 38, H/8, W/8)) per stage, the last one the best. Heatmap 18 is the background.
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
            raise ConfigError(f"stages={config.stages}: must be at least 1")
        self.head, self.multiple = head, 8
        self.backbone = make_backbone(config.backbone)
        self.mean, self.std = self.backbone.mean, self.backbone.std
        if getattr(config, "published", False):
            self.mean, self.std = PUBLISHED_MEAN, PUBLISHED_STD
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


@dataclass(frozen=True)
class LightweightOpenPoseConfig:
    """Options of the network; the defaults are those of the published weights."""

    refinements: int = 1
    width: int = 128


class LightweightOpenPose(Network):
    """OpenPose on a dilated MobileNetV1, with one trunk per stage for both kinds of maps (osokin2018openpose).

    Input (N, 3, H, W), RGB scaled by (x - 128) / 256, H and W multiples of 8. Output as for :class:`OpenPose`.
    """

    Config = LightweightOpenPoseConfig
    mean, std = PUBLISHED_MEAN, PUBLISHED_STD

    def __init__(self, config: LightweightOpenPoseConfig | None = None, head: PafHead = OPENPOSE_HEAD) -> None:
        super().__init__()
        self.config = config = config or LightweightOpenPoseConfig()
        if config.refinements < 0 or config.width < 1:
            raise ConfigError("refinements must be at least 0, and width at least 1")
        self.head, self.multiple, width = head, 8, config.width
        self.backbone = MobileNetV1(stride=8, act="relu", eps=PUBLISHED_EPS)
        self.align = conv(512, width, 1)
        self.trunk = nn.Sequential(*[_separable(width) for _ in range(3)])
        self.join = conv(width, width)
        self.initial = _Maps(nn.Sequential(*[conv(width, width) for _ in range(3)]), width, 512, head)
        self.refinements = nn.ModuleList()
        for _ in range(config.refinements):
            blocks = [Refinement(width if i else width + sum(head.channels), width) for i in range(5)]
            self.refinements.append(_Maps(nn.Sequential(*blocks), width, width, head))

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        check_size(x, self.multiple)
        x = self.align(self.backbone(x)[-1])
        features = self.join(x + self.trunk(x))
        maps = [self.initial(features)]
        for stage in self.refinements:
            maps.append(stage(torch.cat([features, *maps[-1]], 1)))
        return maps


class _Maps(nn.Module):
    """Layers shared by all maps, and two 1x1 convolutions for each kind."""

    def __init__(self, trunk: nn.Sequential, width: int, middle: int, head: PafHead) -> None:
        super().__init__()
        heatmaps, pafs = head.channels
        self.trunk = trunk
        self.heatmaps = nn.Sequential(conv(width, middle, 1), conv(middle, heatmaps, 1, act=False))
        self.pafs = nn.Sequential(conv(width, middle, 1), conv(middle, pafs, 1, act=False))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.trunk(x)
        return self.heatmaps(x), self.pafs(x)


def _separable(width: int) -> nn.Sequential:
    """Depthwise 3x3 and 1x1 convolution, each followed by an ELU."""
    depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
    return nn.Sequential(depthwise, nn.ELU(inplace=True), nn.Conv2d(width, width, 1, bias=False), nn.ELU(inplace=True))
