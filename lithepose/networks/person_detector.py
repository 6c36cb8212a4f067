"""person_detector: boxes of people, anchor-free, at strides 8, 16 and 32."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..skeleton import PERSON_HEAD, BoxHead
from .blocks import check_size, double
from .residual import ResidualBackbone, conv_bn


@dataclass(frozen=True)
class PersonDetectorConfig:
    """Sizes of the network.

    Attributes:
        widths: channels of the backbone's stem and four levels.
        depths: its blocks a level.
        width: channels of the merged features and of the head.
        convs: 3x3 convolutions of the head at each stride.
    """

    widths: tuple[int, ...] = (16, 32, 64, 96, 160)
    depths: tuple[int, ...] = (1, 2, 3, 3)
    width: int = 64
    convs: int = 2


class PersonDetector(nn.Module):
    """One class, no anchors: every cell predicts a score and its distances to the four sides of a person's box.

    Args:
        config: sizes.
        head: strides of the predictions.

    Input (N, 3, H, W), RGB scaled to [-1, 1], H and W multiples of 32. Output: (logits (N, A), boxes (N, A, 4) as
    x0, y0, x1, y1 in input pixels) of all A cells, those of stride 8 first.
    """

    Config = PersonDetectorConfig
    kind = "people"
    multiple = 32
    mean = std = (127.5, 127.5, 127.5)

    def __init__(self, config: PersonDetectorConfig | None = None, head: BoxHead = PERSON_HEAD) -> None:
        super().__init__()
        self.config = config = config or PersonDetectorConfig()
        self.head = head
        if self.head.strides != (8, 16, 32):
            raise ValueError(f"strides={self.head.strides}: person_detector has 8, 16 and 32")
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
                # Few cells hold a person: begin with a score of a hundredth. Boxes begin four strides wide.
                nn.init.constant_(layer.bias, 2.0)
                nn.init.constant_(layer.bias[:1], -4.6)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        check_size(x, self.multiple)
        _, at8, at16, at32 = self.backbone(x)
        top = self.lateral32(at32)
        middle = self.lateral16(at16) + double(top)
        bottom = self.lateral8(at8) + double(middle)
        logits, boxes = [], []
        for features, predict, stride in zip((bottom, middle, top), self.heads, self.head.strides, strict=True):
            maps = predict(F.relu(features))
            # bf16 resolves whole pixels only where boxes are large.
            distances = F.softplus(maps[:, 1:].float()).flatten(2).transpose(1, 2) * stride
            centres = cell_centres(maps.shape[-2], maps.shape[-1], stride, maps.device)
            boxes.append(torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], -1))
            logits.append(maps[:, 0].flatten(1))
        return torch.cat(logits, 1), torch.cat(boxes, 1)

    def cells(self, height: int, width: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Centres (A, 2) in input pixels and strides (A,) of all cells of an input, in the order of the predictions."""
        sizes = [(height // stride, width // stride, stride) for stride in self.head.strides]
        centres = torch.cat([cell_centres(h, w, stride, device) for h, w, stride in sizes])
        return centres, torch.cat([torch.full((h * w,), float(stride), device=device) for h, w, stride in sizes])


def cell_centres(height: int, width: int, stride: int, device: torch.device | None = None) -> Tensor:
    """(height * width, 2) x, y of the centres of a map's cells, in input pixels, row by row."""
    y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) * stride - 0.5
    x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) * stride - 0.5
    return torch.stack([x[None].expand(height, -1), y[:, None].expand(-1, width)], -1).reshape(-1, 2)
