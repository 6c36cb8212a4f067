"""debnath2018split: MobileNet with last layers split into one stream per joint, upper body of one person.

There are three networks: :class:`JointRegression` is the paper's baseline (with or without global pooling) and its
split form, and :class:`SplitStream` is the final network with heatmaps and skip connections. The split regression has
3,321,686 parameters (paper: 3.3 M; 3,307,350 without pooling and with one depthwise convolution would also round to
that). The final network has 2,281,803 (paper: 2.3 M). The baseline as described has 3.23 M, but the paper's table says
4.3: probably the original MobileNet with 1001 classes (4,254,889 with BatchNorm's statistics; the table's 68 MB are 16
bytes per parameter), or the one without pooling (4,310,870).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.heatmaps import FLIC_HEAD, HeatmapHead
from ..heads.people import FLIC_COORDINATES, CoordinateHead
from .backbones.mobilenet import DepthwiseSeparable, MobileNetV1
from .base import Network
from .blocks import Depthwise, check_size

# Filters per joint of FLIC-11. The paper's figure 2b gives no numbers, only that wrists and elbows get more.
FILTERS = {
    "recommended": (20, 32, 40, 20, 32, 40, 20, 20, 11, 11, 10),
}
TOTAL = 256  # filters of all joints; "equal" divides them among any number of joints


def filters(streams: str | tuple[int, ...], joints: int) -> tuple[int, ...]:
    """Return the filters of each joint's stream, from a name or from the numbers themselves.

    Raises:
        ConfigError: the name does not exist, or the number of joints differs.
    """
    if streams == "equal":
        streams = tuple(TOTAL // joints + (j < TOTAL % joints) for j in range(joints))
    elif isinstance(streams, str):
        if streams not in FILTERS:
            raise ConfigError(
                f"unknown streams {streams!r}; choose equal, {', '.join(FILTERS)}, or one number per joint"
            )
        streams = FILTERS[streams]
    if len(streams) != joints or min(streams) < 1:
        raise ConfigError(f"streams {streams}: must be one positive number for each of {joints} joints")
    return tuple(streams)


class Streams(nn.Module):
    """A depthwise separable layer split into one stream per joint, without connections between streams.

    A single grouped convolution for all depthwise parts would be equivalent, but trains ten times slower on a CPU.

    Args:
        c_in: channels that every stream reads.
        widths: channels of each stream's output.
        own_depthwise: give each stream its own depthwise convolution, as "no connection" in the text suggests;
            otherwise all streams share one, which is computed once.

    Returns:
        a list of (N, widths[j], H, W).
    """

    def __init__(self, c_in: int, widths: tuple[int, ...], own_depthwise: bool = True) -> None:
        super().__init__()
        self.shared: nn.Module = nn.Identity()
        if own_depthwise:
            self.joints = nn.ModuleList(DepthwiseSeparable(c_in, n) for n in widths)
            return
        self.shared = nn.Sequential(Depthwise(c_in), nn.BatchNorm2d(c_in, 1e-3), nn.ReLU6(inplace=True))
        self.joints = nn.ModuleList(
            nn.Sequential(nn.Conv2d(c_in, n, 1, bias=False), nn.BatchNorm2d(n, 1e-3), nn.ReLU6(inplace=True))
            for n in widths
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        x = self.shared(x)
        return [joint(x) for joint in self.joints]


@dataclass(frozen=True)
class JointRegressionConfig:
    """Options of the regression networks.

    Attributes:
        pool: global average pooling before the last layer; without it the last layer reads all 7x7 cells.
        split: split the last block and the output into streams.
        streams: filters per joint of the split form, four times those of the final network.
        own_depthwise: see :class:`Streams`.
        size: side of the square input; fixed by ``pool=False``.
    """

    pool: bool = True
    split: bool = False
    streams: str | tuple[int, ...] = "recommended"
    own_depthwise: bool = True
    size: int = 224


class JointRegression(Network):
    """MobileNet that regresses coordinates: the paper's baseline, also without pooling, and "Split (MSE)".

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 32. Output: one stage of (coordinates (N, J, 2),),
    x and y as shares of the input's width and height.
    """

    Config = JointRegressionConfig
    mean = std = MobileNetV1.mean

    def __init__(self, config: JointRegressionConfig | None = None, head: CoordinateHead = FLIC_COORDINATES) -> None:
        super().__init__()
        self.config = config = config or JointRegressionConfig()
        if config.size < 32 or config.size % 32:
            raise ConfigError(f"size={config.size}: must be a multiple of 32")
        self.head, self.multiple = head, 32
        joints = len(head.skeleton)
        self.backbone = MobileNetV1(blocks=12 if config.split else 13)
        cells = 1 if config.pool else (config.size // 32) ** 2
        if config.split:
            widths = tuple(4 * n for n in filters(config.streams, joints))
            self.streams = Streams(1024, widths, config.own_depthwise)
            self.out = nn.ModuleList(nn.Linear(n * cells, 2) for n in widths)
        else:
            self.out = nn.Linear(1024 * cells, 2 * joints)

    def forward(self, x: Tensor) -> list[tuple[Tensor]]:
        check_size(x, self.multiple)
        side = self.config.size
        if not self.config.pool and x.shape[-2:] != (side, side):
            raise ConfigError(f"input of {x.shape[-2]}x{x.shape[-1]}: without pooling it must be {side}x{side}")
        features = self.backbone(x)[-1]

        def flat(x: Tensor) -> Tensor:
            return x.mean((2, 3)) if self.config.pool else x.flatten(1)

        if isinstance(self.out, nn.ModuleList):
            streams = self.streams(features)
            xy = torch.stack([out(flat(stream)) for out, stream in zip(self.out, streams, strict=True)], 1)
        else:
            xy = self.out(flat(features)).unflatten(1, (-1, 2))
        return [(xy,)]


@dataclass(frozen=True)
class SplitStreamConfig:
    """Options of the final network. The text does not say how skips "connect"; add and concat both give 2.3 M.

    Attributes:
        streams: filters per joint, 256 in total in the paper.
        skip14: how the skip at stride 16 is joined, add or concat.
        skip28: likewise at stride 8.
        own_depthwise: see :class:`Streams`.
        out_kernel: side of each stream's last convolution, odd.
    """

    streams: str | tuple[int, ...] = "recommended"
    skip14: str = "add"
    skip28: str = "concat"
    own_depthwise: bool = True
    out_kernel: int = 1


class SplitStream(Network):
    """The final network: two upsamplings by 2, skips from strides 8 and 16, then one stream per joint at stride 4.

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 16. Output: one stage of (heatmaps
    (N, J, H/4, W/4),).
    """

    Config = SplitStreamConfig
    mean = std = MobileNetV1.mean

    def __init__(self, config: SplitStreamConfig | None = None, head: HeatmapHead = FLIC_HEAD) -> None:
        super().__init__()
        self.config = config = config or SplitStreamConfig()
        for skip in (config.skip14, config.skip28):
            if skip not in ("add", "concat"):
                raise ConfigError(f"unknown skip {skip!r}; choose add or concat")
        if config.out_kernel < 1 or config.out_kernel % 2 == 0:
            raise ConfigError(f"out_kernel={config.out_kernel}: must be odd")
        self.head, self.multiple = head, 16
        self.backbone = MobileNetV1()
        self.skip14, self.skip28 = DepthwiseSeparable(512, 512), DepthwiseSeparable(256, 256)
        self.reduce = DepthwiseSeparable(512 if config.skip14 == "add" else 1024, 256)
        widths = filters(config.streams, len(head.skeleton))
        self.streams = Streams(256 if config.skip28 == "add" else 512, widths, config.own_depthwise)
        kernel = config.out_kernel
        self.out = nn.ModuleList(nn.Conv2d(n, 1, kernel, padding=kernel // 2) for n in widths)

    @staticmethod
    def _join(x: Tensor, skip: Tensor, how: str) -> Tensor:
        return x + skip if how == "add" else torch.cat([x, skip], 1)

    def forward(self, x: Tensor) -> list[tuple[Tensor]]:
        check_size(x, self.multiple)
        backbone = self.backbone
        at28 = backbone.stem(x)
        for block in backbone.blocks[:5]:
            at28 = block(at28)
        first14 = at14 = backbone.blocks[5](at28)
        for block in backbone.blocks[6:]:
            at14 = block(at14)
        joined14 = self._join(at14, self.skip14(first14), self.config.skip14)
        up28 = self.reduce(F.interpolate(joined14, scale_factor=2.0))
        joined28 = self._join(up28, self.skip28(at28), self.config.skip28)
        streams = self.streams(F.interpolate(joined28, scale_factor=2.0))
        return [(torch.cat([out(stream) for out, stream in zip(self.out, streams, strict=True)], 1),)]
