"""choi2018binarized: part affinity fields with binarized multi-scale modules instead of 7x7 convolutions.

The large layers have three variants: ``binary`` (the paper's proposal), ``float`` (the same modules, not binarized) and
``binary7`` (7x7 layers that are only binarized, which the paper shows to fail). The backbone, the first stage and 1x1
layers stay float, because the paper does not name them. Binarized convolution with float latent weights follows
XNOR-Net (Rastegari et al. 2016).
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
    """+1 where x >= 0, otherwise -1, so that one bit is enough. The gradient passes where |x| < 1."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return gradients[0] * (x.abs() < 1)


class _XnorWeight(torch.autograd.Function):
    """alpha * sign(W) with the gradient given in XNOR-Net: g * (1/n + alpha * 1[|W| <= 1])."""

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
    """Sign with sign(0) = +1. Where gradients flow, the straight-through gradient is g * 1[|x| < 1]."""
    if not (torch.is_grad_enabled() and x.requires_grad):
        return torch.where(x >= 0, 1.0, -1.0).to(x.dtype)
    return _Sign.apply(x)  # pyright: ignore[reportReturnType]


class BinaryConv2d(nn.Conv2d):
    """Convolution of signs by signs: y = alpha * (sign(x) * sign(W)), without bias.

    alpha is the mean of |W| over each output filter, computed from the latent float weights at every step. Padding is
    applied after the sign, so a tap outside the image counts as 0, neither +1 nor -1; bit kernels correct for it.

    Args:
        c_in: channels in.
        c_out: channels out.
        kernel: side of the square filter, odd.
        centred: subtract the mean over input channels from the latent weights and clamp them to [-1, 1] before use.
        gradient: gradient of the weights: "autograd" flows through alpha and sign; "xnor" is the form in XNOR-Net.
        input_scale: also multiply by K, the mean of |x| over channels and window (XNOR-Net's equation 11).
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
            raise ConfigError(f"unknown gradient {gradient!r}; choose autograd or xnor")
        self.centred, self.gradient, self.input_scale = centred, gradient, input_scale

    def latent(self) -> Tensor:
        """Return the float weights that signs and alpha are computed from."""
        if not self.centred:
            return self.weight
        return (self.weight - self.weight.mean(1, keepdim=True)).clamp(-1, 1)

    def fixed(self) -> tuple[Tensor, Tensor]:
        """Return the data for packing: weights (OC, C, k, k), of which only signs matter, and scales (OC,).

        Raises:
            ConfigError: the layer also scales by its input, which cannot be packed.
        """
        if self.input_scale:
            raise ConfigError(
                "a layer with input_scale cannot be packed, because its scale is not binary; train without input_scale"
            )
        weight = self.latent().detach()
        return weight, weight.abs().mean((1, 2, 3))

    def forward(self, input: Tensor) -> Tensor:
        weight, bits = self.latent(), sign(input)
        if self.gradient == "xnor" and weight.requires_grad and torch.is_grad_enabled():
            scaled: Tensor = _XnorWeight.apply(weight)  # pyright: ignore[reportAssignmentType]
            out = F.conv2d(bits, scaled, None, self.stride, self.padding)
        else:
            # Scaled after the sum: integers add up exactly in any order, so a sum of 0 stays 0, with the sign +1. In
            # bf16, as in training, the sum is also exact and only rounded at the end (sums beyond 256, by 0.4 %).
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
    stages: int = 6  # the paper gives no number; as in OpenPose
    backbone: str = "vgg19"  # or mobilenet_v1, dilated to stride 8
    centred: bool = False
    gradient: str = "autograd"
    input_scale: bool = False


def binarized(c_in: int, c_out: int, kernel: int = 3, **options: Any) -> nn.Sequential:
    """BatchNorm, sign and binary convolution. There is no ReLU, because all signs would be equal after it."""
    return nn.Sequential(nn.BatchNorm2d(c_in), BinaryConv2d(c_in, c_out, kernel, **options))


def preactivated(c_in: int, c_out: int, kernel: int = 3) -> nn.Sequential:
    """BatchNorm, ReLU, convolution without bias."""
    return nn.Sequential(
        nn.BatchNorm2d(c_in), nn.ReLU(inplace=True), nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False)
    )


class MultiScaleModule(nn.Module):
    """Three chained 3x3 layers with receptive fields of 3, 5 and 7 cells, concatenated and added to the input.

    After Bulat and Tzimiropoulos (2017). Widths are a half, a quarter and a quarter of the output. If the input has
    another width, the shortcut is BatchNorm, ReLU and a float 1x1 convolution.
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
    """Return a function that makes the replacement of OpenPose's 7x7 convolution.

    Args:
        kind: binary, float or binary7.
        options: options of :class:`BinaryConv2d`.

    Raises:
        ConfigError: the kind does not exist.
    """
    bits = partial(binarized, **options)
    kinds: dict[str, Callable[[int, int], nn.Module]] = {
        "binary": lambda c_in, c_out: MultiScaleModule(c_in, c_out, bits),
        "float": lambda c_in, c_out: MultiScaleModule(c_in, c_out, preactivated),
        "binary7": lambda c_in, c_out: bits(c_in, c_out, 7),
    }
    if kind not in kinds:
        raise ConfigError(f"unknown layers {kind!r}; choose one of {', '.join(kinds)}")
    return kinds[kind]


class BinaryPaf(OpenPose):
    """OpenPose with the chosen large layers; inputs and outputs as :class:`~lithepose.networks.openpose.OpenPose`.

    14,250,366 parameters, of which 5.40 M are binary weights. At 368x656, 98.7 G multiply-adds, of which 20.4 G are
    binary (with VGG-19 and six stages).
    """

    Config = BinaryPafConfig

    def __init__(self, config: BinaryPafConfig | None = None, head: PafHead = OPENPOSE_HEAD) -> None:
        config = config or BinaryPafConfig()
        options = {"centred": config.centred, "gradient": config.gradient, "input_scale": config.input_scale}
        super().__init__(config, head, large_layer(config.layers, **options))
        # OpenPose's 0.01 is meant for layers without scaling. Layers without a bias are binary, with an output of mean
        # |W| times a sum, or float after a BatchNorm. With 0.01 both would be negligible beside the shortcut.
        for module in self.stages.modules():
            if isinstance(module, nn.Conv2d) and module.bias is None:
                nn.init.kaiming_normal_(module.weight)
