"""Time and multiply-adds of every layer of a network, in torch on the CPU.

osokin2019context calls 1x1 convolutions the bottleneck of its small network on a CPU. The sum by kind of layer shows
this.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..errors import ConfigError
from ..networks import Network
from ..networks.blocks import check_size
from ..timing import Row

ROUNDS, WARMUP = 10, 2


@dataclass
class LayerTime:
    """One layer.

    Attributes:
        name: name of the module.
        kind: description, such as "3x3 convolution".
        out: height and width of its output.
        macs: multiply-adds; 0 except for convolutions and linear layers.
        ms: milliseconds, median over the rounds.
    """

    name: str
    kind: str
    out: tuple[int, ...]
    macs: int
    ms: float


def kind_of(layer: nn.Module) -> str:
    """Describe a layer in words."""
    if isinstance(layer, nn.ConvTranspose2d):
        return f"{'x'.join(map(str, layer.kernel_size))} transposed convolution"
    if isinstance(layer, nn.Conv2d):
        size = "x".join(map(str, layer.kernel_size))
        depthwise = layer.groups > 1 and layer.groups == layer.in_channels
        dilated = ", dilated" if max(layer.dilation) > 1 else ""
        return f"{size} {'depthwise ' if depthwise else ''}convolution{dilated}"
    return type(layer).__name__


def _macs(layer: nn.Module, given: Tensor, out: Tensor) -> int:
    if isinstance(layer, nn.ConvTranspose2d):
        return layer.weight.numel() * given.shape[0] * given.shape[-2] * given.shape[-1]
    if isinstance(layer, nn.Conv2d):
        return layer.weight.numel() * out.shape[0] * out.shape[-2] * out.shape[-1]
    if isinstance(layer, nn.Linear):
        return layer.weight.numel() * (out.numel() // out.shape[-1])
    return 0


@torch.no_grad()
def profile(net: Network, height: int, width: int, rounds: int = ROUNDS) -> list[LayerTime]:
    """Measure every layer on one image of noise. The time between layers does not count.

    Args:
        net: network, put into evaluation mode.
        height: height of the input, in pixels.
        width: likewise.
        rounds: number of rounds, for medians.

    Raises:
        ConfigError: the network does not support the size, or there are no rounds.
    """
    if rounds < 1:
        raise ConfigError(f"{rounds} rounds: must be 1 or more")
    x = torch.randn(1, 3, height, width, generator=torch.Generator().manual_seed(0))
    check_size(x, net.multiple)
    leaves = {name: m for name, m in net.named_modules() if name and not list(m.children())}
    spent: dict[str, list[float]] = {}
    layers: dict[str, LayerTime] = {}
    began: dict[str, float] = {}
    first: dict[str, float] = {}
    counted: list[bool] = []

    def before(name: str) -> None:
        began[name] = time.perf_counter()

    def after(name: str, layer: nn.Module, given: tuple[Tensor, ...], out: object) -> None:
        first[name] = first.get(name, 0.0) + (time.perf_counter() - began[name]) * 1000
        if isinstance(out, Tensor) and not counted:  # in the first round; a layer may run several times
            shape = tuple(out.shape[-2:]) if out.ndim == 4 else tuple(out.shape[1:])
            before = layers[name].macs if name in layers else 0
            layers[name] = LayerTime(name, kind_of(layer), shape, before + _macs(layer, given[0], out), 0.0)

    handles = []
    for name, layer in leaves.items():
        handles.append(layer.register_forward_pre_hook(lambda _, __, n=name: before(n)))
        handles.append(layer.register_forward_hook(lambda m, given, out, n=name: after(n, m, given, out)))
    try:
        net.eval()
        for i in range(WARMUP + rounds):
            first.clear()
            net(x)
            counted.append(True)
            if i >= WARMUP:
                for name, ms in first.items():
                    spent.setdefault(name, []).append(ms)
    finally:
        for handle in handles:
            handle.remove()
    for name, found in layers.items():
        found.ms = statistics.median(spent[name])
    return list(layers.values())


def by_kind(layers: list[LayerTime]) -> list[Row]:
    """Sums by kind of layer, the longest first: number, time, shares of time and multiply-adds, GMACs per second."""
    ms, macs = sum(layer.ms for layer in layers), sum(layer.macs for layer in layers)
    rows: list[Row] = []
    for kind in dict.fromkeys(layer.kind for layer in layers):
        own = [layer for layer in layers if layer.kind == kind]
        spent, done = sum(layer.ms for layer in own), sum(layer.macs for layer in own)
        rows.append(
            {
                "kind": kind,
                "layers": len(own),
                "ms": round(spent, 3),
                "share of time": f"{spent / ms:.1%}",
                "share of MACs": f"{done / macs:.1%}" if macs else "",
                "GMACs a second": f"{done / spent / 1e6:.1f}" if done and spent else "",
            }
        )
    return sorted(rows, key=lambda row: -float(str(row["ms"])))
