"""Building blocks shared by several papers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import ConfigError


def conv(
    c_in: int, c_out: int, kernel: int = 3, *, stride: int = 1, dilation: int = 1, norm: bool = False, act: bool = True
) -> nn.Sequential:
    """Convolution with bias that keeps the size at stride 1, then BatchNorm if ``norm`` and ReLU if ``act``."""
    pad = dilation * (kernel - 1) // 2
    layers: list[nn.Module] = [nn.Conv2d(c_in, c_out, kernel, stride, pad, dilation)]
    if norm:
        layers.append(nn.BatchNorm2d(c_out))
    if act:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Refinement(nn.Module):
    """A 1x1 alignment with a residual of two 3x3 convolutions, the second dilated; sees 7 cells (osokin2019context)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.align = conv(c_in, c_out, 1)
        self.around = nn.Sequential(conv(c_out, c_out, norm=True), conv(c_out, c_out, dilation=2, norm=True))

    def forward(self, x: Tensor) -> Tensor:
        x = self.align(x)
        return x + self.around(x)


def pointwise(c_in: int, c_out: int, act: bool = True) -> nn.Sequential:
    """1x1 convolution, BatchNorm and, if ``act``, ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(c_in, c_out, 1, bias=False), nn.BatchNorm2d(c_out)]
    if act:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Depthwise(nn.Conv2d):
    """Depthwise 3x3 convolution without bias, with ``filters`` filters per channel; keeps the size at stride 1.

    With a stride or several filters it trains in fp32 on a CPU, because oneDNN's bf16 gradients of such layers are slow
    (two Xeon cores with AMX: 159 ms against 10 for 14 x 64 x 192 x 192 at stride 2, 10.7 s against 0.3 for eleven
    filters on 4 x 512 x 48 x 48). A dilated layer does too, because its bf16 gradients are wrong: the last channels
    hold uninitialised memory (torch 2.13, processors with AMX).
    """

    def __init__(self, channels: int, filters: int = 1, stride: int = 1, dilation: int = 1) -> None:
        super().__init__(channels, channels * filters, 3, stride, dilation, dilation, groups=channels, bias=False)
        self.in_fp32 = stride > 1 or filters > 1 or dilation > 1

    def forward(self, input: Tensor, weight: Tensor | None = None, bias: Tensor | None = None) -> Tensor:
        """Apply the layer, with other weights and a bias if they are given."""
        weight = self.weight if weight is None else weight
        if not (self.in_fp32 and self.training and input.device.type == "cpu" and torch.is_autocast_enabled("cpu")):
            return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        with torch.autocast("cpu", enabled=False):
            x = F.conv2d(input.float(), weight, bias, self.stride, self.padding, self.dilation, self.groups)
        return x.to(input.dtype)


def folded_conv(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a convolution with BatchNorm folded into its weights; the running statistics stay as they are."""
    assert isinstance(norm, (nn.BatchNorm2d, nn.SyncBatchNorm))
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    weight, bias = conv.weight * scale.view(-1, 1, 1, 1), norm.bias - norm.running_mean * scale
    if isinstance(conv, Depthwise):
        return conv(x, weight, bias)
    return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)


def expanded_depthwise(c_in: int, c_out: int, expansion: int = 1, stride: int = 1) -> nn.Sequential:
    """EDWConv: ``expansion`` 3x3 filters per channel, then 1x1 (hoang2020rcnn, tables I and II); 1 gives DWConv.

    BatchNorm follows both convolutions, ReLU only the pointwise one. Without a ReLU in between, the depthwise part
    keeps signs, and the pair writes one activation map less.
    """
    mid = c_in * expansion
    return nn.Sequential(
        Depthwise(c_in, expansion, stride),
        nn.BatchNorm2d(mid),
        nn.Conv2d(mid, c_out, 1, bias=False),
        nn.BatchNorm2d(c_out),
        nn.ReLU(inplace=True),
    )


class MultiScale(nn.Module):
    """Residual block of three chained 3x3 layers, with receptive fields of 3, 5 and 7 cells (choi2018binarized).

    Widths are C/2, C/4 and C/4, concatenated and added to the input. Each 3x3 is depthwise separable here.
    """

    def __init__(self, channels: int, expansion: int = 1) -> None:
        super().__init__()
        half, quarter = channels // 2, channels // 4
        self.near = expanded_depthwise(channels, half, expansion)
        self.middle = expanded_depthwise(half, quarter, expansion)
        self.far = expanded_depthwise(quarter, quarter, expansion)

    def forward(self, x: Tensor) -> Tensor:
        near = self.near(x)
        middle = self.middle(near)
        return x + torch.cat([near, middle, self.far(middle)], 1)


def double(x: Tensor) -> Tensor:
    """Bilinear upsampling by 2, without aligned corners. ONNX Runtime can fuse the fixed factor with other layers."""
    return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)


def check_size(x: Tensor, multiple: int) -> None:
    """Check that an input's height and width are multiples of the stride.

    Raises:
        ConfigError: they are not; names the next valid size.
    """
    height, width = x.shape[-2:]
    if height % multiple or width % multiple or not height or not width:
        up = [max(1, -(-s // multiple)) * multiple for s in (height, width)]
        raise ConfigError(
            f"input of {height}x{width}: must be multiples of {multiple}; the next larger size is {up[0]}x{up[1]}"
        )


def gaussian_(module: nn.Module) -> None:
    """Initialise convolutions like OpenPose's trainer: weights N(0, 0.01), biases 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=0.01)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def batch_norms(module: nn.Module) -> list[nn.Module]:
    """Return all BatchNorm layers in a module, including those that are synced over processes."""
    common = nn.modules.batchnorm._BatchNorm  # pyright: ignore[reportPrivateUsage]
    return [layer for layer in module.modules() if isinstance(layer, common)]
