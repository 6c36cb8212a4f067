"""MobileNetV1 as a backbone, with ImageNet weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from ...errors import ConfigError
from ..blocks import Depthwise, folded_conv
from ..weights import load_backbone, read_pretrained

EPS = 1e-3  # epsilon of BatchNorm in TensorFlow's MobileNetV1


def activation(name: str) -> nn.Module:
    """Make a ReLU6 or ReLU.

    Raises:
        ConfigError: the activation does not exist.
    """
    if name not in ("relu6", "relu"):
        raise ConfigError(f"unknown activation {name!r}; choose relu6 or relu")
    return nn.ReLU6(inplace=True) if name == "relu6" else nn.ReLU(inplace=True)


class DepthwiseSeparable(nn.Sequential):
    """Depthwise 3x3 and pointwise 1x1, each with BatchNorm and ReLU6 (MobileNetV1, Howard et al. 2017, figure 3).

    If ``folded``, training folds BatchNorm into the convolutions, as :class:`.residual.ConvBn` does.
    """

    folded = False

    def __init__(
        self, c_in: int, c_out: int, stride: int = 1, dilation: int = 1, eps: float = EPS, act: str = "relu6"
    ) -> None:
        super().__init__()
        self.dw = Depthwise(c_in, stride=stride, dilation=dilation)
        self.dw_bn = nn.BatchNorm2d(c_in, eps)
        self.dw_act = activation(act)
        self.pw = nn.Conv2d(c_in, c_out, 1, bias=False)
        self.pw_bn = nn.BatchNorm2d(c_out, eps)
        self.pw_act = activation(act)

    def forward(self, input: Tensor) -> Tensor:
        if not (self.folded and self.training):
            return super().forward(input)
        x = self.dw_act(folded_conv(self.dw, self.dw_bn, input))
        return self.pw_act(folded_conv(self.pw, self.pw_bn, x))


# (out channels, stride) of MobileNetV1's blocks 1 to 13, width 1.0; block 11 is the end of what papers call conv5_5.
MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))


class MobileNetV1(nn.Module):
    """MobileNetV1, by default up to conv5_5, with the features of each stride.

    Padding is symmetric (1) at stride 2. TensorFlow's weights were trained with (0, 1), which samples the image seven
    pixels later at stride 8 and fifteen at stride 16. Later layers learn to correct this shift.

    Args:
        blocks: number of depthwise separable blocks, at most 13.
        stride: stride of the last features of the first 11 blocks. With 8, block 6 has stride 1 and block 7 is
            dilated by 2 (osokin2019context). With 4, block 4 has stride 1 as well.
        act: relu6, which the ImageNet weights were trained with, or relu.
        eps: epsilon of BatchNorm.

    Returns:
        by default (stride 4 (N, 128, H/4, W/4), stride 8 (N, 256, H/8, W/8), stride 16 (N, 512, H/16, W/16)):
        the last features of 128, 256 and 512 channels, and of 1024 with more than 11 blocks.
    """

    multiple = 16
    mean = std = (127.5, 127.5, 127.5)  # RGB to [-1, 1], as for the ImageNet weights

    def __init__(self, blocks: int = 11, stride: int = 16, act: str = "relu6", eps: float = EPS) -> None:
        super().__init__()
        if stride not in (4, 8, 16):
            raise ConfigError(f"stride {stride}: must be 4, 8 or 16 for MobileNetV1")
        self.frozen: int | None = None  # number of blocks, see freeze
        self.stem = nn.Sequential()
        self.stem.conv = nn.Conv2d(3, 32, 3, 2, 1, bias=False)
        self.stem.bn = nn.BatchNorm2d(32, eps)
        self.stem.act = activation(act)
        self.blocks = nn.ModuleList()
        removed = {16: (), 8: (5,), 4: (3, 5)}[stride]
        c_in = 32
        for i, (c_out, step) in enumerate(MOBILENET_V1[:blocks]):
            dilation = 2 if i == 6 and 5 in removed else 1
            self.blocks.append(DepthwiseSeparable(c_in, c_out, 1 if i in removed else step, dilation, eps, act))
            c_in = c_out
        self.multiple = 32 if blocks > 11 else stride
        self.channels = c_in
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):  # torch's default decays over two dozen layers in evaluation
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(x)
        features = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in (2, 4, 10, len(self.blocks) - 1):  # the last block of each width
                features.append(x)
        return tuple(features)

    def freeze(self, blocks: int) -> None:
        """Freeze the stem and the first ``blocks`` blocks: no gradients, BatchNorm with its running statistics.

        The layers before stride 8 take half the time of a training step, and their filters change the least.
        """
        self.frozen = blocks
        for part in (self.stem, *self.blocks[:blocks]):
            part.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> MobileNetV1:
        """Set the mode as for any module, but keep the layers of :meth:`freeze` in evaluation mode."""
        super().train(mode)
        if mode and self.frozen is not None:
            self.freeze(self.frozen)
        return self

    def load_imagenet(self, pretrained: str | Path) -> None:
        """Load ImageNet weights or another network's backbone, named as for :func:`read_pretrained`.

        Later blocks and the classifier are ignored. Blocks 12 and 13, at stride 32, keep their weights if the
        file does not have all of them, as is the case for backbones of lithepose networks.

        Names may be ``stem.*`` and ``blocks.N.*`` (N from 1), those of a lithepose network with this backbone
        (``backbone.*``), or timm's (``conv_stem``, ``blocks.S.B.conv_dw``).

        Raises:
            ConfigError: a tensor is missing, because the file is not a MobileNetV1.
        """
        state = read_pretrained(pretrained)
        if "backbone.stem.conv.weight" in state:
            state = {_from_network(name): tensor for name, tensor in state.items() if name.startswith("backbone.")}
        if "conv_stem.weight" in state:
            try:
                state = _other_eps({_from_timm(name): tensor for name, tensor in state.items()}, 1e-5)
            except (KeyError, IndexError) as error:
                raise ConfigError(f"{pretrained}: not a MobileNetV1 from timm ({error})") from error
        ours: dict[str, Tensor] = {}
        own, kept = self.state_dict(), set[str]()
        for name in own:
            key = counted_from_one(name)
            if name.endswith("num_batches_tracked"):
                ours[name] = torch.zeros((), dtype=torch.long)
            elif key in state:
                ours[name] = state[key]
            elif name.startswith(("blocks.11.", "blocks.12.")):
                kept.add(name.rsplit(".", 2)[0])
            else:
                raise ConfigError(f"{pretrained}: no tensor {key!r}; pass the weights of a MobileNetV1")
        ours |= {name: own[name] for name in own if name.startswith(tuple(kept))}
        load_backbone(self, ours, pretrained)


def counted_from_one(name: str) -> str:
    """Convert a tensor name with blocks counted from 0 to the name in ImageNet weights, counted from 1."""
    if not name.startswith("blocks."):
        return name
    _, number, rest = name.split(".", 2)
    return f"blocks.{int(number) + 1}.{rest}"


def _other_eps(state: dict[str, Tensor], eps: float) -> dict[str, Tensor]:
    """Convert weights for BatchNorm with another epsilon to equivalent weights for :data:`EPS`.

    Files of lithepose do not store an epsilon, so every network has the same.
    """
    variances = {name.removesuffix("running_var"): v for name, v in state.items() if name.endswith("running_var")}
    scaled = {f"{at}weight": state[f"{at}weight"] * ((v + EPS) / (v + eps)).sqrt() for at, v in variances.items()}
    return state | scaled


def _from_network(name: str) -> str:
    """Convert a name in a lithepose network, blocks counted from 0, to the one in ImageNet weights, counted from 1."""
    parts = name.removeprefix("backbone.").split(".")
    if parts[0] == "blocks":
        parts[1] = str(int(parts[1]) + 1)
    return ".".join(parts)


def _from_timm(name: str) -> str:
    """Convert timm's name of a MobileNetV1 tensor (timm counts blocks within groups of 1, 2, 2, 6 and 2)."""
    parts = name.split(".")
    if parts[0] == "conv_stem":
        return f"stem.conv.{parts[1]}"
    if parts[0] == "bn1":
        return f"stem.bn.{parts[1]}"
    if parts[0] != "blocks":
        return name
    number = (1, 2, 4, 6, 12)[int(parts[1])] + int(parts[2])
    layer = {"conv_dw": "dw", "bn1": "dw_bn", "conv_pw": "pw", "bn2": "pw_bn"}[parts[3]]
    return f"blocks.{number}.{layer}.{parts[4]}"
