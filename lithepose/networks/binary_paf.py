"""choi2018binarized: part affinity fields with binarized multi-scale modules in place of 7x7 convolutions.

One network with three fillings of the large layers: ``binary`` (the paper's proposal), ``float`` (the same modules
unbinarized) and ``binary7`` (the 7x7 layers merely binarized, which the paper shows to fail). Float stays whatever the
paper does not name: backbone, first stage, 1x1 layers. Binarized convolution with float latent weights follows XNOR-Net
(Rastegari et al. 2016).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.pafs import OPENPOSE_HEAD, PafHead
from .openpose import OpenPose


class _Sign(torch.autograd.Function):
    """+1 where x >= 0, else -1: never 0, which one bit cannot hold. The gradient passes where |x| < 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() < 1)


class _XnorWeight(torch.autograd.Function):
    """alpha * sign(W) with the gradient that XNOR-Net prints: g * (1/n + alpha * 1[|W| <= 1])."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        alpha = weight.abs().mean((1, 2, 3), keepdim=True)
        ctx.save_for_backward(weight, alpha)
        return torch.where(weight >= 0, alpha, -alpha)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        weight, alpha = ctx.saved_tensors
        return gradients[0] * (1 / weight[0].numel() + alpha * (weight.abs() <= 1))


def sign(x: Tensor) -> Tensor:
    """Sign with sign(0) = +1 and the straight-through gradient g * 1[|x| < 1]; nothing else where no gradient flows."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    return _Sign.apply(x)  # pyright: ignore[reportReturnType]


class BinaryConv2d(nn.Conv2d):
    """Convolution of signs by signs: y = alpha * (sign(x) * sign(W)), without bias.

    alpha is the mean of |W| over each output filter, taken anew from the latent float weights at every step. Padding
    comes after the sign, so a tap outside the image counts 0, neither +1 nor -1; bit kernels correct for it.

    Args:
        c_in: channels in.
        c_out: channels out.
        kernel: side of the square filter, odd.
        centred: take the mean over the input channels off the latent weights and clamp them to [-1, 1] before use.
        gradient: of the weights: "autograd" flows through alpha and sign; "xnor" is the form that XNOR-Net prints.
        input_scale: multiply by K as well, the mean of |x| over channels and window (XNOR-Net's equation 11).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        kernel: int = 3,
        *,
        centred: bool = False,
        gradient: str = "autograd",
        input_scale: bool = False,
    ) -> None:
        super().__init__(c_in, c_out, kernel, padding=kernel // 2, bias=False)
        if gradient not in ("autograd", "xnor"):
            raise ConfigError(f"gradient {gradient!r}; there are autograd and xnor")
        self.centred, self.gradient, self.input_scale = centred, gradient, input_scale

    def latent(self) -> Tensor:
        """The float weights that signs and alpha are taken from."""
        if not self.centred:
            return self.weight
        return (self.weight - self.weight.mean(1, keepdim=True)).clamp(-1, 1)

    def fixed(self) -> tuple[Tensor, Tensor]:
        """What a packed form keeps: weights (OC, C, k, k), of which the signs count, and scales (OC,).

        Raises:
            ConfigError: a layer that scales by its input as well, which bits do not hold.
        """
        if self.input_scale:
            raise ConfigError(
                "a layer with input_scale cannot be packed: what it is scaled by is no bit; train without"
            )
        weight = self.latent().detach()
        return weight, weight.abs().mean((1, 2, 3))

    def forward(self, input: Tensor) -> Tensor:
        weight, bits = self.latent(), sign(input)
        if self.gradient == "xnor" and weight.requires_grad and torch.is_grad_enabled():
            scaled: Tensor = _XnorWeight.apply(weight)  # pyright: ignore[reportAssignmentType]
            out = F.conv2d(bits, scaled, None, self.stride, self.padding)
        else:
            # Scaled after the sum: whole numbers add up exactly in any order, so a sum of 0 stays 0, with the sign +1.
            # In bf16, as training has it, the sum is exact too and only rounded at the end (sums beyond 256, by 0.4 %).
            counts = F.conv2d(bits, sign(weight), padding=self.padding)
            out = counts * weight.abs().mean((1, 2, 3))[:, None, None]
        if self.input_scale:
            size: int = self.kernel_size[0]
            out = out * F.avg_pool2d(input.abs().mean(1, keepdim=True), size, 1, size // 2)
        return out


@dataclass(frozen=True)
class BinaryPafConfig:
    """Options of the network; the last three are those of :class:`BinaryConv2d`."""

    layers: str = "binary"  # binary, float or binary7
    stages: int = 6  # the paper gives no number; OpenPose's
    backbone: str = "vgg19"  # or mobilenet_v1, dilated to stride 8
    centred: bool = False
    gradient: str = "autograd"
    input_scale: bool = False


def binarized(c_in: int, c_out: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """BatchNorm, sign, binary convolution; no ReLU, which would leave one sign only."""
    return nn.Sequential(nn.BatchNorm2d(c_in), BinaryConv2d(c_in, c_out, kernel, **options))


def preactivated(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """BatchNorm, ReLU, convolution without bias."""
    return nn.Sequential(
        nn.BatchNorm2d(c_in), nn.ReLU(inplace=True), nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    )


class MultiScaleModule(nn.Module):
    """Three 3x3 layers in a chain, which see 3, 5 and 7 cells, side by side and added to the input.

    Bulat and Tzimiropoulos (2017); widths are half, a quarter and a quarter of the output. Where the input has another
    width the shortcut is BatchNorm, ReLU and a float 1x1 convolution.
    """

    def __init__(self, c_in: int, c_out: int, layer: Callable[[int, int], nn.Module]) -> None:
        super().__init__()
        self.three = layer(c_in, c_out // 2)
        self.five = layer(c_out // 2, c_out // 4)
        self.seven = layer(c_out // 4, c_out // 4)
        self.skip = nn.Identity() if c_in == c_out else preactivated(c_in, c_out, 1)

    def forward(self, x: Tensor) -> Tensor:
        three = self.three(x)
        five = self.five(three)
        return torch.cat([three, five, self.seven(five)], 1) + self.skip(x)


def large_layer(kind: str, **options: Any) -> Callable[[int, int], nn.Module]:
    """What stands where OpenPose has a 7x7 convolution.

    Args:
        kind: binary, float or binary7.
        options: of :class:`BinaryConv2d`.

    Raises:
        ConfigError: no such kind.
    """
    bits = partial(binarized, **options)
    kinds: dict[str, Callable[[int, int], nn.Module]] = {
        "binary": lambda c_in, c_out: MultiScaleModule(c_in, c_out, bits),
        "float": lambda c_in, c_out: MultiScaleModule(c_in, c_out, preactivated),
        "binary7": lambda c_in, c_out: bits(c_in, c_out, 7),
    }
    if kind not in kinds:
        raise ConfigError(f"no layers {kind!r}; there are {', '.join(kinds)}")
    return kinds[kind]


class BinaryPaf(OpenPose):
    """OpenPose with the chosen large layers; inputs and outputs as :class:`~lithepose.networks.openpose.OpenPose`.

    14,250,366 parameters, of which 5.40 M are binary weights; at 368x656 98.7 G multiply-adds, 20.4 G of them binary
    (with VGG-19 and six stages).
    """

    Config = BinaryPafConfig

    def __init__(self, config: BinaryPafConfig | None = None, head: PafHead = OPENPOSE_HEAD) -> None:
        config = config or BinaryPafConfig()
        options = {"centred": config.centred, "gradient": config.gradient, "input_scale": config.input_scale}
        super().__init__(config, head, large_layer(config.layers, **options))
        # OpenPose's 0.01 is for layers without scaling. Those without a bias are the binary ones; their output is
        # mean |W| times a sum, and the float ones behind a BatchNorm: with 0.01 both would fade beside the skip.
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight)
