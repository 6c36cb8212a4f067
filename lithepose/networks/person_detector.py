"""person_detector: boxes of people, without anchors, at strides 8, 16 and 32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.boxes import PERSON_HEAD, BoxHead
from .backbones.residual import ResidualBackbone, conv_bn
from .base import Network
from .blocks import check_size, double


@dataclass(frozen=True)
class PersonDetectorConfig:
    """Sizes of the network.

    Attributes:
        widths: channels of the backbone's stem and four levels.
        depths: blocks of each level.
        width: channels of the merged features and of the head.
        convs: 3x3 convolutions of the head at each stride.
    """

    widths: tuple[int, ...] = (16, 32, 64, 96, 160)
    depths: tuple[int, ...] = (1, 2, 3, 3)
    width: int = 64
    convs: int = 2


class PersonDetector(Network):
    """One class, no anchors: every cell predicts a score and its distances to the four sides of a person's box.

    Args:
        config: sizes.
        head: supplies the strides of the predictions.

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 32. Output: (logits (N, A), boxes (N, A, 4) as
    x0, y0, x1, y1 in input pixels) of all A cells, stride 8 first.
    """

    Config = PersonDetectorConfig
    multiple = 32
    mean = std = (127.5, 127.5, 127.5)

    def __init__(self, config: PersonDetectorConfig | None = None, head: BoxHead = PERSON_HEAD) -> None:
        super().__init__()
        self.config = config = config or PersonDetectorConfig()
        self.head = head
        if self.head.strides != (8, 16, 32):
            raise ConfigError(f"strides={self.head.strides}: must be 8, 16 and 32 for person_detector")
        self.backbone = ResidualBackbone(config.widths, config.depths)
        width = config.width
        self.lateral8, self.lateral16, self.lateral32 = (nn.Conv2d(c, width, 1) for c in self.backbone.channels[1:])
        self.heads = nn.ModuleList(
            nn.Sequential(*[conv_bn(width, width) for _ in range(config.convs)], nn.Conv2d(width, 5, 1))
            for _ in self.head.strides
        )
        for layer in self.heads.modules():
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.normal_(layer.weight, std=0.01)
                # Few cells hold a person, so scores start at 0.01. Boxes start four strides wide.
                nn.init.constant_(layer.bias, 2.0)
                nn.init.constant_(layer.bias[:1], -4.6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        logits, sides = self.raw(x)
        centres, strides = self.cells(x.shape[-2], x.shape[-1], x.device)
        return logits, boxes_around(sides.transpose(1, 2), centres, strides)

    def raw(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (N, A), and raw distances to the four sides, (N, 4, A)."""
        check_size(x, self.multiple)
        _, at8, at16, at32 = self.backbone(x)
        top = self.lateral32(at32)
        middle = self.lateral16(at16) + double(top)
        bottom = self.lateral8(at8) + double(middle)
        features = zip((bottom, middle, top), self.heads, strict=True)
        maps = torch.cat([predict(F.relu(level)).flatten(2) for level, predict in features], 2)
        return maps[:, 0], maps[:, 1:]

    def best(self, x: Tensor, count: int) -> tuple[Tensor, Tensor]:
        """Return the boxes with the highest scores.

        Only these boxes are computed. Their cells follow from their indices: on a CPU the hundred small operations on
        all cells would take as long as several convolutions.

        Returns:
            boxes (N, count, 4), descending by score; scores (N, count) in [0, 1], 0 after the last cell.
        """
        (height, width), smallest = x.shape[-2:], 21  # cells of the smallest input, 32x32
        logits, sides = self.raw(x)
        missing = max(0, count - smallest)
        logit, number = torch.topk(F.pad(logits, (0, missing), value=-100.0), count)
        sides = F.pad(sides, (0, missing)).gather(2, number[:, None].expand(-1, 4, -1)).transpose(1, 2)
        # In floats, which hold these numbers exactly: exporters turn a division of integers into many operations.
        cell, stride = number.float(), torch.full_like(logit, 8.0)
        for finer in self.head.strides[:-1]:
            cells = (height // finer) * (width // finer)
            further = (cell >= cells) & (stride == finer)
            cell = torch.where(further, cell - cells, cell)
            stride = torch.where(further, 2.0 * finer, stride)
        across = width / stride
        row = torch.floor((cell + 0.5) / across)
        centres = (torch.stack([cell - row * across, row], -1) + 0.5) * stride[..., None] - 0.5
        return boxes_around(sides, centres, stride), logit.sigmoid()

    def cells(self, height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Return centres (A, 2) in input pixels and strides (A,) of an input's cells, in the order of predictions."""
        sizes = [(height // stride, width // stride, stride) for stride in self.head.strides]
        centres = torch.cat([cell_centres(h, w, stride, device) for h, w, stride in sizes])
        return centres, torch.cat([torch.full((h * w,), float(stride), device=device) for h, w, stride in sizes])


def boxes_around(sides: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Return boxes (..., 4), x0, y0, x1, y1, of predictions (..., 4) at centres (..., 2) and strides (...)."""
    # bf16 would round the sides of large boxes to whole pixels.
    distances = F.softplus(sides.float()) * strides[..., None]
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1)


def cell_centres(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """Return (height * width, 2) x, y of the centres of a map's cells, in input pixels, row by row."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride - 0.5
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride - 0.5
    return torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], -1).reshape(-1, 2)
