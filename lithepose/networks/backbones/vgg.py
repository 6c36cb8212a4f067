"""VGG-19 as a backbone."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from ...errors import ConfigError
from ..weights import load_backbone, read_pretrained


class VGG19(nn.Module):
    """The first ten convolutions of VGG-19 (Simonyan and Zisserman 2015, table 1), up to conv4_2 at stride 8.

    Layers are numbered as in torchvision's ``features``, so its ImageNet weights can be loaded by name.

    Returns:
        one feature map (N, 512, H/8, W/8) in a tuple, as every backbone returns.
    """

    multiple = 8
    channels = 512
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)  # of ImageNet, as for its weights

    def __init__(self) -> None:
        super().__init__()
        self.features, c_in = nn.Sequential(), 3
        for widths in ((64, 64), (128, 128), (256,) * 4, (512, 512)):
            if c_in > 3:
                self.features.append(nn.MaxPool2d(2))
            for c_out in widths:
                self.features.append(nn.Conv2d(c_in, c_out, 3, 1, 1)).append(nn.ReLU(inplace=True))
                c_in = c_out
        for layer in self.features:
            if isinstance(layer, nn.Conv2d):  # ten layers without BatchNorm need this scale to train from scratch
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)  # pyright: ignore[reportArgumentType]

    def forward(self, x: Tensor) -> tuple[Tensor]:
        return (self.features(x),)

    def load_imagenet(self, pretrained: str | Path) -> None:
        """Load ``features.N.*`` of a VGG-19 from a file, ``torchvision:vgg19`` or ``timm:vgg19...``.

        Raises:
            ConfigError: a tensor is missing, because the file is not a VGG-19.
        """
        state = read_pretrained(pretrained)
        missing = [name for name in self.state_dict() if name not in state]
        if missing:
            raise ConfigError(f"{pretrained}: no tensor {missing[0]!r}; pass the ImageNet weights of a VGG-19")
        load_backbone(self, {name: state[name] for name in self.state_dict()}, pretrained)
