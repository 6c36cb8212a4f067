"""lithe_paf: poses of many people in one pass on a CPU, in constant time for any number of people.

It combines ideas of the five papers: a MobileNetV1 backbone with skip connections back to stride 8
(debnath2018split), a thin U-shaped context module (osokin2019context), joint and limb branches that exchange features
(huang2019mln), and refinement by multi-scale residual blocks (choi2018binarized) of expanded depthwise convolutions
(hoang2020rcnn).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.pafs import COCO_HEAD, PafHead
from .backbones.mobilenet import MobileNetV1
from .base import Network
from .blocks import MultiScale, check_size, double, expanded_depthwise, pointwise


@dataclass(frozen=True)
class LithePafConfig:
    """Sizes of the network; the defaults stay within 1.5 G multiply-adds at 256x384."""

    width: int = 128  # channels at stride 8
    context: int = 256  # channels of the U-shaped context module
    blocks: tuple[int, ...] = (1, 2)  # multi-scale blocks per branch, for each stage
    expansion: int = 1  # depthwise filters per channel


class ThinContext(nn.Module):
    """U-shaped context (osokin2019context) with depthwise separable convolutions: strides 16, 32, 64 and back."""

    def __init__(self, c_in: int, width: int) -> None:
        super().__init__()
        self.down32 = nn.Sequential(expanded_depthwise(c_in, width, stride=2), expanded_depthwise(width, width))
        self.down64 = nn.Sequential(expanded_depthwise(width, width, stride=2), expanded_depthwise(width, width))
        self.up32 = expanded_depthwise(2 * width, width)
        self.up16 = expanded_depthwise(c_in + width, width)

    def forward(self, x: Tensor) -> Tensor:
        at32 = self.down32(x)
        at64 = self.down64(at32)
        at32 = self.up32(torch.cat([at32, double(at64)], 1))
        return self.up16(torch.cat([x, double(at32)], 1))


class Stage(nn.Module):
    """Joint and limb branches that exchange features before their last layers (cross transfer, huang2019mln)."""

    def __init__(self, c_in: int, width: int, blocks: int, expansion: int, channels: tuple[int, int]) -> None:
        super().__init__()

        def branch() -> nn.Sequential:
            enter = [pointwise(c_in, width)] if c_in != width else []
            return nn.Sequential(*enter, *[MultiScale(width, expansion) for _ in range(blocks)])

        self.joints, self.limbs = branch(), branch()
        self.to_joints, self.to_limbs = pointwise(width, width, act=False), pointwise(width, width, act=False)
        self.heatmaps, self.pafs = nn.Conv2d(width, channels[0], 1), nn.Conv2d(width, channels[1], 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        joints, limbs = self.joints(x), self.limbs(x)
        joints_out = self.heatmaps(torch.relu(joints + self.to_joints(limbs)))
        return joints_out, self.pafs(torch.relu(limbs + self.to_limbs(joints)))


class LithePaf(Network):
    """The bottom-up network for many people.

    Args:
        config: sizes.
        head: meaning of the outputs.

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 64. Output: one (heatmaps (N, K, H/8, W/8),
    pafs (N, 2 L, H/8, W/8)) per stage, the last one the best.
    """

    Config = LithePafConfig
    multiple = 64
    mean = std = MobileNetV1.mean

    def __init__(self, config: LithePafConfig | None = None, head: PafHead = COCO_HEAD) -> None:
        super().__init__()
        self.config = config = config or LithePafConfig()
        if config.width < 4 or config.width % 4 or config.context < 1 or config.expansion < 1:
            raise ConfigError(
                f"width={config.width}: must be a multiple of 4; context and expansion must be at least 1"
            )
        if not config.blocks or min(config.blocks) < 0:
            raise ConfigError(f"blocks={config.blocks}: must be a number of blocks per stage, for at least one stage")
        self.head = head
        self.backbone = MobileNetV1()
        width = config.width
        self.context = ThinContext(512, config.context)
        self.lateral8 = pointwise(256, width, act=False)
        self.lateral16 = pointwise(config.context, width, act=False)
        self.merge = expanded_depthwise(width, width)
        stages, c_in = [], width
        for blocks in config.blocks:
            stages.append(Stage(c_in, width, blocks, config.expansion, head.channels))
            c_in = width + sum(head.channels)
        self.stages = nn.ModuleList(stages)
        for stage in stages:
            for conv in (stage.heatmaps, stage.pafs):
                nn.init.normal_(conv.weight, std=0.01)
                nn.init.zeros_(conv.bias)

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        check_size(x, self.multiple)
        _, at8, at16 = self.backbone(x)
        lateral = self.lateral8(at8)
        features = self.merge(torch.relu(lateral + double(self.lateral16(self.context(at16)))))
        maps: list[tuple[Tensor, Tensor]] = []
        inputs = features
        for stage in self.stages:
            heatmaps, pafs = stage(inputs)
            maps.append((heatmaps, pafs))
            inputs = torch.cat([features, heatmaps, pafs], 1)
        return maps
