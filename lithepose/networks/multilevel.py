"""huang2019mln: multi-level network (MLN).

It has 21,278,912 convolution weights and needs 82.5 G multiply-adds at 368x432, both as in the paper. Several wirings
fit these two numbers; ``docs/papers.md`` explains which one was chosen and why. ``detect=4`` is another.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.pafs import OPENPOSE_HEAD, PafHead
from .backbones import make_backbone
from .base import Network
from .blocks import check_size, conv, gaussian_
from .openpose import Branches


@dataclass(frozen=True)
class MultilevelConfig:
    """Options of the network. The defaults are the paper's; the four switches select its kinds of information.

    Attributes:
        lower: transfer Conv-1 and Conv-2 of the source branch (edges, parts); only Conv-1 with ``detect=4``.
        upper: transfer the last convolution of the source branch (whole joints or limbs).
        joint_limb: transfer between joints and limbs; otherwise each branch is its own source, with as many
            parameters.
        context: add the refinement: dense blocks over all maps that see most of the image.
        transfer: dense blocks per direction of transfer.
        refine: dense blocks per branch of the refinement.
        detect: 3, or 4 for the variant that transfers only Conv-1 and Conv-4.
        backbone: vgg19, or mobilenet_v1 dilated to stride 8.
        paper_scaling: x / 256 - 0.5 as in the paper, for Caffe's VGG-19. By default the backbone's ``mean`` and ``std``
            are used, because the weights that can be loaded here were trained with them.
    """

    lower: bool = True
    upper: bool = True
    joint_limb: bool = True
    context: bool = True
    transfer: int = 2
    refine: int = 7
    detect: int = 3
    backbone: str = "vgg19"
    paper_scaling: bool = False


class Dense(nn.Module):
    """Three chained 3x3 convolutions, concatenated: 384 channels that see 3, 5 and 7 cells."""

    def __init__(self, c_in: int) -> None:
        super().__init__()
        self.a, self.b, self.c = conv(c_in, 128), conv(128, 128), conv(128, 128)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(a)
        return torch.cat([a, b, self.c(b)], 1)


def dense_chain(c_in: int, blocks: int) -> nn.Sequential:
    """``blocks`` dense blocks, c_in -> 384 channels."""
    return nn.Sequential(*[Dense(c_in if i == 0 else 384) for i in range(blocks)])


class Detection(nn.Module):
    """Conv-1, Conv-2, ... of one branch. Returns the features of all of them."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(conv(128, 128) for _ in range(layers))

    def forward(self, x: Tensor) -> list[Tensor]:
        features = []
        for layer in self.convs:
            x = layer(x)
            features.append(x)
        return features


class Merge(nn.Module):
    """The paper's Conv-4 and Conv-5, from a branch's own features and those transferred to it to maps.

    With ``detect=4``, Conv-4 is the last layer of :class:`Detection`, and these are the two layers after it.
    A 1x1 convolution of the concatenation equals the sum of two 1x1 convolutions, so the text's "merged" may mean
    either.
    """

    def __init__(self, transferred: int, c_out: int) -> None:
        super().__init__()
        self.merge = conv(128 + transferred, 128, 1)
        self.maps = conv(128, c_out, 1, act=False)

    def forward(self, own: Tensor, transferred: list[Tensor]) -> Tensor:
        return self.maps(self.merge(torch.cat([own, *transferred], 1)))


class Multilevel(Network):
    """Joint and limb branches that exchange features, followed by refinement with global context.

    Input (N, 3, H, W), RGB scaled by ``mean`` and ``std``, H and W multiples of 8. Output: (heatmaps (N, 19, H/8, W/8),
    pafs (N, 38, H/8, W/8)) of the detection and, with ``context``, of the refinement.
    """

    Config = MultilevelConfig

    def __init__(self, config: MultilevelConfig | None = None, head: PafHead = OPENPOSE_HEAD) -> None:
        super().__init__()
        self.config = config = config or MultilevelConfig()
        if config.detect not in (3, 4):
            raise ConfigError(f"detect={config.detect}: must be 3 or 4 convolutions per branch")
        if config.transfer < 0 or config.refine < 1:
            raise ConfigError(
                f"transfer={config.transfer}, refine={config.refine}: must be at least 0 and 1 dense blocks"
            )
        self.head, self.multiple = head, 8
        self.backbone = make_backbone(config.backbone)
        paper = (128.0, 128.0, 128.0), (256.0, 256.0, 256.0)  # x / 256 - 0.5
        self.mean, self.std = paper if config.paper_scaling else (self.backbone.mean, self.backbone.std)
        self.cpm = nn.Sequential(conv(512, 256), conv(256, 128))
        self.detect_joints, self.detect_limbs = Detection(config.detect), Detection(config.detect)
        self.levels = self._levels(config)
        transferred = 384 if self.levels and config.transfer else 128 * len(self.levels)
        if self.levels:
            width = 128 * len(self.levels)
            self.to_limbs, self.to_joints = (dense_chain(width, config.transfer) for _ in range(2))
        heatmaps, pafs = head.channels
        self.merge_joints, self.merge_limbs = Merge(transferred, heatmaps), Merge(transferred, pafs)
        if config.context:

            def refine(c_out: int) -> nn.Module:
                out = conv(384, 128, 1), conv(128, c_out, 1, act=False)
                return nn.Sequential(dense_chain(128 + sum(head.channels), config.refine), *out)

            self.refine = Branches(refine, head)
        for name, part in self.named_children():
            if name != "backbone":
                _initialise(part)

    @staticmethod
    def _levels(config: MultilevelConfig) -> list[int]:
        """Return which convolutions of the source are transferred."""
        last = config.detect - 1
        lower = [0] if config.detect == 4 else list(range(last))
        return (lower if config.lower else []) + ([last] if config.upper else [])

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        check_size(x, self.multiple)
        features = self.cpm(self.backbone(x)[-1])
        joints, limbs = self.detect_joints(features), self.detect_limbs(features)
        to_joints, to_limbs = [], []
        if self.levels:
            for_joints, for_limbs = (limbs, joints) if self.config.joint_limb else (joints, limbs)
            to_joints.append(self.to_joints(torch.cat([for_joints[i] for i in self.levels], 1)))
            to_limbs.append(self.to_limbs(torch.cat([for_limbs[i] for i in self.levels], 1)))
        heatmaps, pafs = self.merge_joints(joints[-1], to_joints), self.merge_limbs(limbs[-1], to_limbs)
        maps = [(heatmaps, pafs)]
        if self.config.context:
            maps.append(self.refine(torch.cat([pafs, heatmaps, features], 1)))
        return maps


def _initialise(part: nn.Module) -> None:
    """Initialise for ReLU, with small last layers. OpenPose's 0.01 would decay over 36 layers without BatchNorm.

    The paper does not describe its initialisation.
    """
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]
    for layer in part.modules():
        if isinstance(layer, nn.Sequential) and len(layer) == 1 and isinstance(layer[0], nn.Conv2d):
            gaussian_(layer)  # a convolution without activation: maps
