"""Parameters, multiply-adds and sizes of a network, counted by torch on tensors without memory.

A multiply-add is one multiplication and one addition of a convolution or a matrix product. Biases, BatchNorm,
activations, pooling and resizing are not counted. huang2019mln and osokin2019context call multiply-adds FLOPs, and
huang2019mln counts only convolution weights, without biases, as parameters. choi2018binarized and hoang2020rcnn give no
counts.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass, replace
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ..errors import ConfigError
from ..networks import KeypointRcnn, Network
from ..networks.binary_paf import BinaryConv2d
from ..networks.blocks import check_size

PAPERS = {  # height x width at which each paper counts or times, and its numbers
    "lithe": ("256x192", "none; this network is the project's own"),
    "lithe_paf": ("256x384", "none; this network is the project's own"),
    "person_detector": ("256x320", "none; this network is the project's own"),
    "openpose": ("368x432", "52,298,816 convolution weights, 159.6 GMACs (printed as FLOPs; huang2019mln)"),
    "binary_paf": (
        "368x656",
        "no counts, but 49 -> 27 multiplications and 48 -> 26 additions per cell for its module: three 3x3 filters"
        " instead of one 7x7 filter; with the halved widths, which this ignores, it is 7.9 times fewer",
    ),
    "multilevel": ("368x432", "21,278,912 convolution weights, 82.5 GMACs (printed as FLOPs)"),
    "context_cpm": ("256x256", "21.3 GMACs (printed as FLOPs); the U-shaped module 6.44 M and 2.53 G"),
    "split_stream": ("224x224", "2.3 M parameters, 26 MB"),
    "joint_regression": (
        "224x224",
        "4.3 M parameters and 68 MB, probably of MobileNet with 1001 classes at 16 bytes each",
    ),
    "keypoint_rcnn": ("320x320", "no counts"),
}


# Matrix products that are not layers do not count, such as pooling by matrices.
COUNTED = (torch.ops.aten.convolution, torch.ops.aten.addmm)


@dataclass(frozen=True)
class Complexity:
    """Counts of a network, or of a part of it.

    Attributes:
        parameters: weights, biases and BatchNorm's scales and shifts.
        conv_weights: weights of convolutions only.
        bn_statistics: BatchNorm's running means and variances.
        binary_weights: part of ``conv_weights`` that needs one bit each.
        binary_filters: number of binary filters, each with its own scale.
        macs: multiply-adds at the given size.
        binary_macs: part of ``macs`` between bits.
    """

    parameters: int
    conv_weights: int
    bn_statistics: int
    binary_weights: int
    binary_filters: int
    macs: int
    binary_macs: int

    @property
    def megabytes(self) -> dict[str, float]:
        """Size of the parameters in 1e6 bytes: all in fp32, all in fp16, and fp32 with binary weights in one bit.

        With binary weights, the scale of every filter is stored as well.
        """
        packed = 4 * (self.parameters - self.binary_weights + self.binary_filters) + self.binary_weights / 8
        return {"fp32": 4 * self.parameters / 1e6, "fp16": 2 * self.parameters / 1e6, "packed": packed / 1e6}


def measure(net: nn.Module, *shape: int) -> Complexity:
    """Count one forward pass.

    Args:
        net: network; it is moved to torch's meta device and cannot be used afterwards.
        shape: shape of the input without the batch: 3, H, W.
    """
    net = net.eval().to("meta")
    convolutions = [m for m in net.modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d))]
    norms = [m for m in net.modules() if isinstance(m, nn.BatchNorm2d)]
    counter = FlopCounterMode(display=False)
    binary_macs = 0

    def count_binary(layer: nn.Conv2d, _: object, out: torch.Tensor) -> None:
        nonlocal binary_macs
        binary_macs += out.shape[-2] * out.shape[-1] * layer.weight.numel()

    for layer in convolutions:
        if isinstance(layer, BinaryConv2d):
            layer.register_forward_hook(count_binary)
    with counter, torch.no_grad():
        net(torch.zeros(1, *shape, device="meta"))
    return Complexity(
        sum(p.numel() for p in net.parameters()),
        sum(m.weight.numel() for m in convolutions),
        sum(2 * m.num_features for m in norms),
        sum(m.weight.numel() for m in convolutions if isinstance(m, BinaryConv2d)),
        sum(m.out_channels for m in convolutions if isinstance(m, BinaryConv2d)),
        sum(counter.get_flop_counts().get("Global", {}).get(op, 0) for op in COUNTED) // 2,
        binary_macs,
    )


def measure_parts(net: Network, height: int, width: int) -> dict[str, Complexity]:
    """Count a network, or the parts of keypoint_rcnn; its heads run once per box.

    Returns:
        Complexity by part; only ``whole`` for other networks. The heads of keypoint_rcnn run once per person: its
        ``whole`` has the parameters of all parts, and the multiply-adds of those that run once per image.

    Raises:
        ConfigError: the network does not support the size.
    """
    if not isinstance(net, KeypointRcnn):
        return {"whole": measure(net, 3, height, width)}
    check_size(torch.empty(1, 3, height, width, device="meta"), net.multiple)
    if max(height, width) != net.config.size:
        raise ConfigError(
            f"{height}x{width}: the longer side must be {net.config.size}; set the network's option size to change it"
        )
    detector: Any = net.detector
    config = net.config
    heads = detector.roi_heads
    box = nn.Sequential(heads.box_head, heads.box_predictor)
    both = measure(nn.Sequential(detector.backbone, _Levels(detector.rpn.head)), 3, height, width)
    backbone = measure(detector.backbone, 3, height, width)
    parts = {
        "backbone": backbone,
        "proposals": Complexity(*(a - b for a, b in zip(astuple(both), astuple(backbone), strict=True))),
        "box head, a box": measure(box, 256, 7, 7),
        f"{config.conv} keypoint head, a box": measure(heads.keypoint_head, 256, 14, 14),
        "keypoint predictor, a box": measure(heads.keypoint_predictor, config.width, 14, 14),
    }
    total = [sum(column) for column in zip(*map(astuple, parts.values()), strict=True)]
    return {"whole": replace(Complexity(*total), macs=both.macs), **parts}


class _Levels(nn.Module):
    """A proposal head for a dict of maps, as returned by a backbone."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: dict[str, torch.Tensor]) -> object:
        return self.head(list(maps.values()))
