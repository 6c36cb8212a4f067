"""osokin2019context: Global Context Convolutional Pose Machine, one person.

With the U-shaped module and six stages it needs 21.288 G multiply-adds at 256x256 (paper: 21.3). The module alone has
6,440,175 parameters (paper: 6.44 M) and needs 2.519 G (paper: 2.53, which is 0.4 % more and may include a part of
BatchNorm and interpolation). The other two modules are inferred from the counts in the paper.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.heatmaps import LIP_HEAD, HeatmapHead
from .backbones.mobilenet import EPS, MobileNetV1
from .base import PUBLISHED_EPS, PUBLISHED_MEAN, PUBLISHED_STD, Network
from .blocks import Refinement, check_size, conv, double, gaussian_


@dataclass(frozen=True)
class ContextCpmConfig:
    """Options of the network; the defaults are the paper's best.

    Attributes:
        context: unet, aspp, pyramid or none (the baseline).
        context_at: each_stage, or backbone: one module after the features that all stages share.
        stages: number of stages, including the first; the paper's small network has 2.
        stride: 8 gives maps of 32x32 at 256x256; 4 gives the 64x64 of the paper's MPII version.
        act: activation of the backbone. The paper's is relu. The available ImageNet weights were trained with relu6 and
            RGB in [-1, 1].
        published: scale the input by (x - 128) / 256 and use BatchNorm's epsilon of 1e-5, as in the authors' weights.
    """

    context: str = "unet"
    context_at: str = "each_stage"
    stages: int = 6
    stride: int = 8
    act: str = "relu6"
    published: bool = False


class UShaped(nn.Module):
    """Encoder of two steps and decoder with skip connections. Keeps the number of channels."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.c_out = c

        def pair(c_in: int, c_mid: int, c_out: int, stride: int = 1) -> nn.Sequential:
            return nn.Sequential(conv(c_in, c_mid, stride=stride, norm=True), conv(c_mid, c_out, norm=True))

        self.encode1, self.encode2 = pair(c, 2 * c, 2 * c, 2), pair(2 * c, 2 * c, 2 * c, 2)
        self.decode2, self.decode1 = pair(4 * c, 2 * c, 2 * c), pair(3 * c, 2 * c, c)

    def forward(self, x: Tensor) -> Tensor:
        half = self.encode1(x)
        quarter = self.encode2(half)
        half = self.decode2(torch.cat([half, double(quarter)], 1))
        return self.decode1(torch.cat([x, double(half)], 1))


class AtrousPyramid(nn.Module):
    """ASPP: four dilated branches of 1024 channels on an alignment to 128 channels, concatenated and fused.

    Inferred: 9,521,280 weights and 9.750 G at 32x32 (paper: 9.52 M and 9.75 G). BatchNorm would not match these counts.
    """

    RATES = (3, 6, 9, 12)

    def __init__(self, c: int) -> None:
        super().__init__()
        self.c_out = 128
        self.align = conv(c, 128, 1)
        self.branches = nn.ModuleList(
            nn.Sequential(conv(128, 1024, dilation=rate), conv(1024, 1024, 1), conv(1024, 128, 1))
            for rate in self.RATES
        )
        self.fuse = conv(4 * 128, 128, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.align(x)
        return self.fuse(torch.cat([branch(x) for branch in self.branches], 1))


class PyramidPooling(nn.Module):
    """Average pools to 2, 4, 8 and 16 cells per side, 32 channels each, concatenated with their input.

    Inferred: 198,784 weights and 0.065 G at 32x32 (paper: 0.2 M and 0.07 G). The paper does not say average or maximum.
    """

    CELLS = (2, 4, 8, 16)

    def __init__(self, c: int) -> None:
        super().__init__()
        self.c_out = 128
        self.align = conv(c, 128, 1, norm=True)
        self.levels = nn.ModuleList(conv(128, 32, norm=True) for _ in self.CELLS)
        self.fuse = conv(128 + 4 * 32, 128, 1, norm=True)

    def forward(self, x: Tensor) -> Tensor:
        x = self.align(x)
        size, parts = x.shape[-2:], [x]
        for cells, level in zip(self.CELLS, self.levels, strict=True):
            pooled = level(area_pool(x, cells))
            parts.append(F.interpolate(pooled, size, mode="bilinear", align_corners=False))
        return self.fuse(torch.cat(parts, 1))


def area_pool(x: Tensor, cells: int) -> Tensor:
    """Average over ``cells`` x ``cells`` equal areas of a map of any size, (N, C, H, W) -> (N, C, cells, cells).

    If H and W are multiples of ``cells``, this is average pooling by H / cells and W / cells. Otherwise a value on a
    border counts for both areas, in proportion. It uses matrices, because adaptive pooling cannot be exported for
    dynamic sizes.
    """

    def shares(size: int) -> Tensor:
        at, area = torch.arange(size, device=x.device), torch.arange(cells, device=x.device)[:, None]
        upper, lower = torch.minimum((at + 1) * cells, (area + 1) * size), torch.maximum(at * cells, area * size)
        return ((upper - lower).clamp(min=0) / size).to(x.dtype)

    height, width = x.shape[-2:]
    return shares(height) @ x @ shares(width).T


CONTEXTS: dict[str, Callable[[int], UShaped | AtrousPyramid | PyramidPooling]] = {
    "unet": UShaped,
    "aspp": AtrousPyramid,
    "pyramid": PyramidPooling,
}


def make_context(name: str, c: int) -> tuple[nn.Module, int]:
    """Make a context module for ``c`` channels; returns the module and its number of output channels.

    Raises:
        ConfigError: the module does not exist.
    """
    if name == "none":
        return nn.Identity(), c
    if name not in CONTEXTS:
        raise ConfigError(f"unknown context {name!r}; choose one of {', '.join(CONTEXTS)}, none")
    module = CONTEXTS[name](c)
    return module, module.c_out


class ContextCpm(Network):
    """Stages that refine the heatmaps of one person, each with global context.

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 4 strides. Output: one (heatmaps (N, 17, H / stride,
    W / stride),) per stage, the last one the best. Heatmap 16 is the background.
    """

    Config = ContextCpmConfig
    mean = std = MobileNetV1.mean

    def __init__(self, config: ContextCpmConfig | None = None, head: HeatmapHead = LIP_HEAD) -> None:
        super().__init__()
        self.config = config = config or ContextCpmConfig()
        if config.context_at not in ("each_stage", "backbone"):
            raise ConfigError(f"unknown context_at={config.context_at!r}; choose each_stage or backbone")
        if config.stages < 1:
            raise ConfigError(f"stages={config.stages}: must be at least 1")
        # The Gaussian has the same size in input pixels for every stride.
        sigma = head.sigma * head.stride / config.stride
        self.head, self.multiple = replace(head, stride=config.stride, sigma=sigma), 4 * config.stride
        each = config.context if config.context_at == "each_stage" else "none"
        once = config.context if config.context_at == "backbone" else "none"
        maps = head.channels[0]
        eps = PUBLISHED_EPS if config.published else EPS
        self.backbone = MobileNetV1(stride=config.stride, act=config.act, eps=eps)
        if config.published:
            self.mean, self.std = PUBLISHED_MEAN, PUBLISHED_STD
        self.cpm = nn.Sequential(conv(512, 256, norm=True), conv(256, 128, norm=True))
        self.context, width = make_context(once, 128)
        self.initial = nn.Sequential(
            *[conv(width if i == 0 else 128, 128, norm=True) for i in range(3)],
            conv(128, 512, 1),
            conv(512, maps, 1, act=False),
        )
        self.refinements = nn.ModuleList()
        for _ in range(config.stages - 1):
            context, c = make_context(each, width + maps)
            blocks = [Refinement(c, 128), Refinement(128, 128), Refinement(128, 128)]
            self.refinements.append(nn.Sequential(context, *blocks, conv(128, 128, 1), conv(128, maps, 1, act=False)))
        for stage in (self.initial, *self.refinements):
            gaussian_(stage[-1])  # pyright: ignore[reportIndexIssue]

    def forward(self, x: Tensor) -> list[tuple[Tensor]]:
        check_size(x, self.multiple)
        features = self.context(self.cpm(self.backbone(x)[-1]))
        maps = [self.initial(features)]
        for stage in self.refinements:
            maps.append(stage(torch.cat([features, maps[-1]], 1)))
        return [(heatmaps,) for heatmaps in maps]
