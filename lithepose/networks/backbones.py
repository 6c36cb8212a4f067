"""Feature extractors shared by the networks."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 and pointwise 1x1, each with BatchNorm and ReLU6 (MobileNetV1, Howard et al. 2017, figure 3)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1, dilation: int = 1, eps: float = 1e-3) -> None:
        super().__init__()
        self.dw = nn.Conv2d(c_in, c_in, 3, stride, dilation, dilation, groups=c_in, bias=False)
        self.dw_bn = nn.BatchNorm2d(c_in, eps)
        self.dw_act = nn.ReLU6(inplace=True)
        self.pw = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.pw_bn = nn.BatchNorm2d(c_out, eps)
        self.pw_act = nn.ReLU6(inplace=True)


# (out channels, stride) of MobileNetV1's blocks 1 to 11, width 1.0; block 11 ends what papers call conv5_5.
MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5)


class MobileNetV1(nn.Module):
    """MobileNetV1 up to conv5_5, with the features of every stride.

    Symmetric padding of 1 at stride 2, where the ImageNet start was trained with (0, 1): that samples the picture
    seven pixels earlier, a plain shift that the later layers learn away.

    Returns:
        (stride 4 (N, 128, H/4, W/4), stride 8 (N, 256, H/8, W/8), stride 16 (N, 512, H/16, W/16)).
    """

    channels = (128, 256, 512)
    strides = (4, 8, 16)

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential()
        self.stem.conv = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.stem.bn = nn.BatchNorm2d(32, 1e-3)
        self.stem.act = nn.ReLU6(inplace=True)
        self.blocks = nn.ModuleList()
        c_in = 32
        for c_out, stride in MOBILENET_V1:
            self.blocks.append(DepthwiseSeparable(c_in, c_out, stride))
            c_in = c_out

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = self.stem(x)
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (2, 4, 10):  # the last block of each stride
                features.append(x)
        return features[0], features[1], features[2]

    def freeze(self, blocks: int) -> None:
        """Keep the stem and the first ``blocks`` blocks as they are: no gradients, BatchNorm by its averages.

        The maps before stride 8 take half the time of a training step and their filters change the least.
        """
        for part in (self.stem, *self.blocks[:blocks]):
            part.requires_grad_(False).eval()

    def load_imagenet(self, path: str | Path) -> None:
        """Load weights named ``stem.*`` and ``blocks.N.*`` (N from 1), ignoring later blocks and the classifier."""
        state = load_file(path)
        ours: dict[str, Tensor] = {}
        for name in self.state_dict():
            key = name
            if name.startswith("blocks."):
                _, number, rest = name.split(".", 2)
                key = f"blocks.{int(number) + 1}.{rest}"
            if name.endswith("num_batches_tracked"):
                ours[name] = torch.zeros((), dtype=torch.long)
            elif key in state:
                ours[name] = state[key]
            else:
                raise ValueError(f"{path}: no tensor {key!r}; this is not a MobileNetV1 ImageNet start")
        self.load_state_dict(ours)
