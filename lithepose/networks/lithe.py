"""lithe: the default pose network, one person in a crop, on a plain CPU.

A backbone of dense residual blocks, a top-down merge of its features at stride 8, and a head that predicts four cells
of the stride-4 heatmaps at every cell of stride 8 (pixel shuffle), so that no layer works at stride 4 after the first
level. ``research/training-log.md`` compares it with ideas of the five papers, trained alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.people import LITHE_HEAD, CropHead
from .backbones.efficientnet import EfficientNetLite0
from .backbones.mobilenet import MobileNetV1
from .backbones.residual import Residual, ResidualBackbone, conv_bn
from .base import Network
from .blocks import check_size, double

SHUFFLE = 2  # cells of the heatmaps per cell of the head, along each axis
SMOOTH = 1.0  # cells: standard deviation of the Gaussian that smooths heatmaps before joints are read off them
SMOOTH_REACH = 2  # cells on each side that it takes into account


@dataclass(frozen=True)
class LitheConfig:
    """Sizes and variants of the network.

    Attributes:
        backbone: residual, mobilenet_v1 or efficientnet_lite0.
        widths: channels of the residual backbone's stem and four levels.
        depths: its blocks a level.
        block: its kind of block, a key of :data:`lithepose.networks.backbones.residual.BLOCKS`.
        width: channels of the head.
        context: add a U-shaped context module at strides 32 and 64 (osokin2019context).
        refine: residual blocks between the merged features and the head.
        streams: predict face, arms and legs by streams of their own (debnath2018split).
    """

    backbone: str = "residual"
    widths: tuple[int, ...] = (16, 32, 64, 96, 160)
    depths: tuple[int, ...] = (1, 2, 3, 3)
    block: str = "residual"
    width: int = 64
    context: bool = False
    refine: int = 0
    streams: bool = True


class UShapedContext(nn.Module):
    """One more level at stride 64 and back, by dense convolutions (osokin2019context, U-shaped module)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down = nn.Sequential(conv_bn(channels, channels, stride=2), conv_bn(channels, channels))
        self.up = conv_bn(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        coarse = F.interpolate(self.down(x), size=x.shape[-2:], mode="nearest")
        return self.up(torch.cat([x, coarse], 1))


class Streams(nn.Module):
    """A stream of convolutions for each group of joints (debnath2018split); no group sees another's features."""

    def __init__(self, c_in: int, groups: list[list[int]]) -> None:
        super().__init__()
        order = [joint for group in groups for joint in group]
        self.back: Tensor
        self.register_buffer("back", torch.tensor([order.index(k) for k in range(len(order))]), persistent=False)
        width = c_in // 2
        self.streams = nn.ModuleList(
            nn.Sequential(conv_bn(c_in, width), nn.Conv2d(width, 4 * len(group), 1)) for group in groups
        )

    def forward(self, x: Tensor) -> Tensor:
        maps = torch.cat([stream(x) for stream in self.streams], 1)
        return maps.unflatten(1, (-1, 4)).index_select(1, self.back).flatten(1, 2)


def joint_groups(joints: tuple[str, ...]) -> list[list[int]]:
    """Indices of the joints of the face and what else there is, of the arms and of the legs; no empty group."""
    parts = {"arms": ("shoulder", "elbow", "wrist"), "legs": ("hip", "knee", "ankle")}
    groups = [[k for k, joint in enumerate(joints) if any(p in joint for p in names)] for names in parts.values()]
    rest = [k for k in range(len(joints)) if not any(k in group for group in groups)]
    return [group for group in (rest, *groups) if group]


class Lithe(Network):
    """The default pose network.

    Args:
        config: sizes and variants.
        head: joints, stride (4) and sigma of the heatmaps.

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 32. Output: [(heatmaps (N, K, H/4, W/4),)].
    """

    Config = LitheConfig
    multiple = 32
    crop: tuple[int, ...] = (256, 192)
    small_crop: tuple[int, ...] = ()
    mean = std = (127.5, 127.5, 127.5)

    def __init__(self, config: LitheConfig | None = None, head: CropHead = LITHE_HEAD) -> None:
        super().__init__()
        self.config = config = config or LitheConfig()
        if head.stride != 4:
            raise ConfigError(f"stride={head.stride}: must be 4 for lithe")
        self.head = head
        # Slope and offset of a joint's score in logits: heatmap values -> shares of joints that are right.
        self.calibration: Tensor
        self.register_buffer("calibration", torch.tensor([1.0, 0.0]))
        makers = {
            "residual": lambda: ResidualBackbone(config.widths, config.depths, config.block),
            "mobilenet_v1": lambda: MobileNetV1(13),
            "efficientnet_lite0": EfficientNetLite0,
        }
        if config.backbone not in makers:
            raise ConfigError(f"unknown backbone={config.backbone!r}; choose one of {', '.join(makers)}")
        self.backbone = makers[config.backbone]()
        channels = self.backbone.channels if config.backbone != "mobilenet_v1" else (128, 256, 512, 1024)
        width = config.width
        self.context = UShapedContext(channels[3]) if config.context else nn.Identity()
        self.lateral8, self.lateral16, self.lateral32 = (nn.Conv2d(c, width, 1) for c in channels[1:])
        self.refine = nn.Sequential(*[Residual(width) for _ in range(config.refine)])
        groups = joint_groups(head.skeleton.joints)
        self.predict = (
            Streams(width, groups)
            if config.streams
            else nn.Sequential(conv_bn(width, width), nn.Conv2d(width, 4 * len(head.skeleton), 1))
        )
        for layer in self.predict.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> list[tuple[Tensor]]:
        return [(F.pixel_shuffle(self.unshuffled(x), SHUFFLE),)]

    def unshuffled(self, x: Tensor) -> Tensor:
        """The heatmaps before the pixel shuffle, (N, 4 K, H/8, W/8)."""
        check_size(x, self.multiple)
        _, at8, at16, at32 = self.backbone(x)
        merged = self.lateral16(at16) + double(self.lateral32(self.context(at32)))
        merged = F.relu(self.lateral8(at8) + double(merged))
        return self.predict(self.refine(merged))


def joints_from_heatmaps(heatmaps: Tensor, stride: int, sigma: float, shuffle: int = 1) -> tuple[Tensor, Tensor]:
    """The highest cell of every smoothed map, refined below a cell.

    Along each axis the position is the top of the parabola through the logarithms of three cells, which is exact for a
    Gaussian. The cells are those of the smoothed map, as a network's maps are noisy; near the edge of the map, where
    smoothing distorts, those of the map itself. At the edge the missing third cell follows from the known width of the
    Gaussian.

    Args:
        heatmaps: (N, K, h, w); or (N, K r^2, h / r, w / r) as they are before a pixel shuffle by r, which costs a copy
            of the maps.
        stride: input pixels per cell.
        sigma: standard deviation of the Gaussians, in cells.
        shuffle: r.

    Returns:
        xy (N, K, 2) in input pixels; score (N, K) in [0, 1], the map's highest value there and in the four
        cells beside.
    """
    rows, columns = heatmaps.shape[-2:]
    cells = rows * columns  # of a phase
    raw, smooth = heatmaps.unflatten(1, (-1, shuffle**2)), smoothed(heatmaps, shuffle).unflatten(1, (-1, shuffle**2))
    # First the row, then the column in it: OpenVINO takes ten times as long for the highest of all cells at once.
    lines = smooth.flatten(2, 3)  # (N, K, phases * rows, columns)
    line = lines.amax(3).argmax(2, keepdim=True)
    column = lines.gather(2, line[..., None].expand(-1, -1, 1, columns))[:, :, 0].argmax(2).float()
    # In floats, which hold these indices exactly: exporters turn a division of integers into many operations.
    phase, row = _divide(line[:, :, 0].float(), rows)
    row_phase, column_phase = _divide(phase, shuffle)
    phases = torch.stack([column_phase, row_phase], -1)
    xy = torch.stack([column, row], -1) * shuffle + phases
    along_x, along_y = torch.eye(2, device=heatmaps.device)
    last = (along_x * columns + along_y * rows) * shuffle - 1

    # The next cell along an axis is that of the next phase; after the last phase, it is the next cell of the first.
    step = (along_x + along_y * shuffle) * cells
    wrap = step * (shuffle - 1) - (along_x + along_y * columns)
    at_first, at_last = xy == 0, xy == last
    before = torch.where(phases == 0, wrap, -step).masked_fill(at_first, 0)
    after = torch.where(phases == shuffle - 1, -wrap, step).masked_fill(at_last, 0)
    best = (phase * cells + row * columns + column)[..., None]
    index = torch.cat([best, best + before, best + after], -1).long()
    raw, smooth = raw.flatten(2).gather(2, index), smooth.flatten(2).gather(2, index)

    inner = torch.minimum(xy, last - xy).amin(-1, keepdim=True) > SMOOTH_REACH
    centre, lower, upper = torch.where(inner, smooth, raw).clamp(min=1e-6).log().split([1, 2, 2], -1)
    lower = torch.where(at_first, 2 * centre - upper - 1 / sigma**2, lower)
    upper = torch.where(at_last, 2 * centre - lower - 1 / sigma**2, upper)
    bend = (lower + upper - 2 * centre).clamp(max=-1e-6)
    xy = xy + ((lower - upper) / (2 * bend)).clamp(-1, 1)
    return xy * stride + (stride / 2 - 0.5), raw.amax(-1).clamp(0, 1)


def smoothed(heatmaps: Tensor, shuffle: int = 1) -> Tensor:
    """Heatmaps convolved with a Gaussian of :data:`SMOOTH` cells; beyond the edge nothing is taken into account.

    Args:
        heatmaps: (N, K r^2, h, w) before a pixel shuffle by r.
        shuffle: r.
    """
    reach = -(-SMOOTH_REACH // shuffle)  # in cells of a phase
    offsets = torch.arange(-reach, reach + 1) * shuffle
    phases = torch.arange(shuffle)
    distance = phases[None, :, None] + offsets - phases[:, None, None]  # (output phase, input phase, offset)
    line = torch.exp(-(distance**2) / (2 * SMOOTH**2)) * (distance.abs() <= SMOOTH_REACH)
    # (output phases y, x; input phases y, x; offsets y, x)
    kernel = line[:, None, :, None, :, None] * line[None, :, None, :, None, :]
    weight = kernel.flatten(2, 3).flatten(0, 1).to(heatmaps)
    groups = heatmaps.shape[1] // shuffle**2
    total = F.conv2d(torch.ones_like(heatmaps[:1, : shuffle**2]), weight, padding=reach)
    maps = F.conv2d(heatmaps, weight.repeat(groups, 1, 1, 1), padding=reach, groups=groups)
    return (maps.unflatten(1, (groups, -1)) / total).flatten(1, 2)


def _divide(value: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of whole numbers of 0 or more, in float32.

    The half makes the quotient right even where a runtime multiplies by the rounded reciprocal.
    """
    quotient = torch.floor((value + 0.5) / by)
    return quotient, value - quotient * by
