"""Distillation: a trained network's heatmaps as targets, mixed with the labels or in place of missing ones."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError
from ..exporters.onnx import open_weights
from ..heads.people import CropHead
from .config import Recipe


class Teacher:
    """Heatmaps of person crops by a trained network, as the mean of a crop and its mirror image.

    Args:
        recipe: its ``distill.teacher`` is the ``weights.safetensors`` of the trained network.
        head: of the network to be trained, which must have the same joints and stride.
        device: of both.

    Raises:
        MissingFileError: no such file.
        ConfigError: the teacher has other joints, or another kind of output.
    """

    def __init__(self, recipe: Recipe, head: object, device: torch.device) -> None:
        path = Path(recipe.distill.teacher)
        net, _ = open_weights(path)
        if not (isinstance(net.head, CropHead) and isinstance(head, CropHead)):
            raise ConfigError(f"distill.teacher = {path}: only networks of person crops can be distilled")
        if (net.head.skeleton, net.head.stride) != (head.skeleton, head.stride):
            raise ConfigError(f"distill.teacher = {path}: has other joints or another stride than the network")
        self.net = net.eval().requires_grad_(False).to(device).to(memory_format=torch.channels_last)  # pyright: ignore
        self.order = list(net.head.skeleton.flip_order)
        self.precision = recipe.precision

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Heatmaps (N, K, H / stride, W / stride) float32 of scaled images (N, 3, H, W)."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            own, mirrored = self.net(x)[-1][0], self.net(x.flip(3))[-1][0]
        return (own.float() + mirrored.float().flip(3)[:, self.order]) / 2


def with_teacher(labels: Tensor, weight: Tensor, maps: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Targets and weights of heatmaps with a teacher's maps among them.

    Args:
        labels: (N, K, h, w) heatmaps of the labels.
        weight: (N, K), 0 where the label is unknown.
        maps: (N, K, h, w) of the teacher.
        share: of the teacher's maps in the targets of labelled joints.

    Returns:
        the targets, and their weights: 1 where the teacher alone decides.
    """
    known = weight > 0
    targets = torch.where(known[..., None, None], labels.lerp(maps, share), maps)
    return targets, torch.where(known, weight, 1.0)
