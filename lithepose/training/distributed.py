"""Training of one network in several processes: ``torchrun --nproc-per-node N -m lithepose train RECIPE``.

All processes use the same recipe and share each step's batch, so an epoch has the same samples as in one process.
"""

from __future__ import annotations

import atexit
import gc
import os
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.nn  # if imported later, as DDP does, its default arguments would keep the group alive
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class World:
    """This process among the others. Without torchrun there is only one."""

    def __init__(self) -> None:
        self.size, self.rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
        self.neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes on this machine
        cuda = torch.cuda.is_available()
        self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if cuda else torch.device("cpu")
        if self.size > 1:
            if cuda:
                torch.cuda.set_device(self.device)
            dist.init_process_group("nccl" if cuda else "gloo")
            # Gloo's threads end with the last reference to the group, and abort the process if they outlive the
            # interpreter. DDP holds such a reference in a cycle.
            atexit.register(gc.collect)

    def __enter__(self) -> World:
        return self

    def __exit__(self, *_: object) -> None:
        if self.size > 1:
            dist.destroy_process_group()

    @property
    def first(self) -> bool:
        """Whether this process writes the files."""
        return self.rank == 0

    def wrap(self, net: nn.Module) -> nn.Module:
        """Wrap the network for training: gradients are averaged over all processes."""
        if self.size == 1:
            return net
        # A batch without people gives a detector's heads no gradients.
        unused = getattr(net, "kind", "") == "boxes"
        return DistributedDataParallel(net, find_unused_parameters=unused)

    def synced(self, net: Any) -> Any:
        """Replace BatchNorm, so that its statistics cover the batches of all processes."""
        if self.size == 1:
            return net
        if self.device.type == "cuda":
            return nn.SyncBatchNorm.convert_sync_batchnorm(net)
        for module in net.modules():
            for name, child in module.named_children():
                if type(child) is nn.BatchNorm2d:
                    setattr(module, name, SyncedBatchNorm2d.of(child))
        return net

    def mean(self, values: dict[str, float]) -> dict[str, float]:
        """Average over all processes with equal weight."""
        if self.size == 1:
            return values
        tensor = torch.tensor(list(values.values()), dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return dict(zip(values, (tensor / self.size).tolist(), strict=True))

    def barrier(self) -> None:
        """Wait for all processes."""
        if self.size > 1:
            dist.barrier()


class _Sum(torch.autograd.Function):
    """Sum over all processes, of the value and of its gradient."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        gradient = gradients[0].clone()
        dist.all_reduce(gradient)
        return gradient


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm over the batches of all processes on a CPU, where torch's SyncBatchNorm is not available.

    All processes must have the same number of samples.
    """

    @classmethod
    def of(cls, layer: nn.BatchNorm2d) -> SyncedBatchNorm2d:
        """Return a synced version of a layer. It shares the layer's parameters and statistics."""
        synced = cls(layer.num_features, layer.eps, layer.momentum, layer.affine, layer.track_running_stats)
        synced.load_state_dict(layer.state_dict())
        synced.weight, synced.bias = layer.weight, layer.bias
        return synced.train(layer.training)

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x, world = input.float(), dist.get_world_size()
        mean: Tensor = _Sum.apply(x.mean((0, 2, 3))) / world  # pyright: ignore[reportOperatorIssue]
        centred = x - mean[:, None, None]  # two passes, because a difference of squares would lose precision
        variance: Tensor = _Sum.apply(centred.square().mean((0, 2, 3))) / world  # pyright: ignore
        with torch.no_grad():
            count = input.numel() / self.num_features * world
            momentum = 0.1 if self.momentum is None else self.momentum
            assert self.running_mean is not None
            assert self.running_var is not None
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        scale = self.weight / torch.sqrt(variance + self.eps)
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(input.dtype)
