"""Time of a training step of the pose network, by part, and its share of the processor's bf16 peak.

    python benchmarks/training_step.py

Uses random crops and targets, without a loader. The peak is the best rate of a bf16 matrix product of 4096 x 4096 in
the same run. A step's work is three times the multiply-adds of the network's convolutions: forward, and both gradients.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import tyro
from torch import nn

from lithepose.analysis.complexity import measure_parts
from lithepose.networks.lithe import Lithe, LitheConfig
from lithepose.training.config import OptimizerConfig
from lithepose.training.losses import map_loss
from lithepose.training.optim import Average, make_optimizer


def peak(size: int = 4096, rounds: int = 5) -> float:
    """bf16 multiply-adds per second of a matrix product."""
    a, b = torch.randn(2, size, size).bfloat16()
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        torch.mm(a, b)
        best = min(best, time.perf_counter() - began)
    return size**3 / best


def main(batch: int = 64, height: int = 256, width: int = 192, steps: int = 10, streams: bool = True) -> None:
    """Measure, and print the results.

    Args:
        batch: crops per step.
        height: height of a crop.
        width: width of a crop.
        steps: number of steps for medians, after three others.
        streams: option of the network.
    """
    torch.set_flush_denormal(True)
    net = Lithe(LitheConfig(streams=streams)).to(memory_format=torch.channels_last).train()
    macs = measure_parts(Lithe(LitheConfig(streams=streams)), height, width)["whole"].macs
    optimizer, average = make_optimizer(net, OptimizerConfig("muon")), Average(net, 0.999)
    x = torch.randn(batch, 3, height, width).contiguous(memory_format=torch.channels_last)
    target = torch.rand(batch, 17, height // 4, width // 4)
    weight, none = torch.ones(batch, 17, 1, 1), target[:, :0]
    spent: dict[str, list[float]] = {}

    def timed(name: str, part: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = part()
        spent.setdefault(name, []).append(time.perf_counter() - began)
        return result

    def forward() -> list[tuple[torch.Tensor]]:
        with torch.autocast("cpu", torch.bfloat16):
            return net(x)

    for step in range(steps + 3):
        output = timed("forward", forward)
        loss = timed("loss", lambda maps=output: map_loss(maps, target, none, weight, none)["total"])
        timed("backward", loss.backward)
        timed("optimizer", optimizer.step)
        timed("average", lambda step=step: average.update(net, step))
        nn.Module.zero_grad(net, set_to_none=True)
    medians = {name: sorted(values[3:])[len(values[3:]) // 2] for name, values in spent.items()}
    total, best = sum(medians.values()), peak()
    for name, seconds in medians.items():
        print(f"{name:10} {seconds * 1000:7.1f} ms")
    rate = 3 * macs * batch / total
    print(f"{batch / total:.0f} crops a second of {height}x{width}; {macs / 1e9:.3f} G multiply-adds a crop")
    print(f"{rate / 1e9:.0f} of {best / 1e9:.0f} G multiply-adds a second: {rate / best:.1%} of the bf16 peak")


if __name__ == "__main__":
    tyro.cli(main)
