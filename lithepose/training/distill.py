"""Distillation: heatmaps of trained networks as targets, mixed with the labels or in place of unknown labels."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from ..errors import ConfigError, MissingFileError
from ..exporters.onnx import open_weights
from ..heads.people import CropHead
from ..networks import Network
from .config import Recipe


class Teacher:
    """Predicts heatmaps of person crops with trained networks: means over them, each crop and its mirror image.

    If a joint of one side has no partner on the other, it cannot be mirrored. Then only the crop itself is used.

    Args:
        recipe: its ``distill.teacher`` lists the ``weights.safetensors`` files of the trained networks.
        head: head of the network in training.
        device: device of all networks.

    Raises:
        MissingFileError: no such file.
        ModelError: a file is not safetensors of a network.
        ConfigError: the network or a teacher does not take person crops, or their heatmaps differ in joints, stride or
            sigma.
    """

    def __init__(self, recipe: Recipe, head: object, device: torch.device) -> None:
        if not isinstance(head, CropHead):
            raise ConfigError(f"distill.teacher: {recipe.network} does not use person crops; remove [distill]")
        self.nets = [_opened(Path(path), head).to(device) for path in recipe.distill.teacher]
        self.order = None if head.skeleton.unpaired else list(head.skeleton.flip_order)
        self.precision = recipe.precision

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """Return heatmaps (N, K, H / stride, W / stride) float32 of scaled images (N, 3, H, W)."""
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            maps = self._mean(x)
            return maps if self.order is None else (maps + self._mean(x.flip(3)).flip(3)[:, self.order]) / 2

    def _mean(self, x: Tensor) -> Tensor:
        return torch.stack([net(x)[-1][0].float() for net in self.nets]).mean(0)


def _opened(path: Path, head: CropHead) -> Network:
    """Return a teacher with frozen weights; errors as in :class:`Teacher`."""
    if not path.is_file():
        raise MissingFileError(f"distill.teacher = {path}: no such file; set it to the weights.safetensors of a run")
    net, info = open_weights(path)
    if not isinstance(net.head, CropHead):
        raise ConfigError(
            f"distill.teacher = {path}: {info.name} does not use person crops; choose a teacher that does"
        )
    skeletons = net.head.skeleton, head.skeleton
    for what, its, ours in (
        ("joints", *(s.joints for s in skeletons)),
        ("mirrored joints", *(s.flip_order for s in skeletons)),
        ("stride", net.head.stride, head.stride),
        ("sigma", net.head.sigma, head.sigma),
    ):
        if its != ours:
            raise ConfigError(
                f"distill.teacher = {path}: its heatmaps have {what} {its}, but the recipe has {ours}; choose a"
                f" teacher with the same {what}"
            )
    return net.eval().requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def with_teacher(labels: Tensor, weight: Tensor, maps: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Combine heatmap targets and weights with a teacher's heatmaps.

    Args:
        labels: (N, K, h, w) heatmaps of the labels.
        weight: (N, K), 0 where the label is unknown.
        maps: (N, K, h, w) heatmaps of the teacher.
        share: share of the teacher's heatmaps in the targets of joints with a weight.

    Returns:
        targets (N, K, h, w), with the teacher's heatmaps where the label is unknown; weights (N, K), 1 there.
    """
    known = weight > 0
    targets = torch.where(known[..., None, None], labels.lerp(maps, share), maps)
    return targets, torch.where(known, weight, 1.0)


def patched(x: Tensor, weight: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Paste a rectangle of another crop, at the same place, into some crops (CutMix), for a teacher to label.

    Args:
        x: (N, C, H, W) crops.
        weight: (N, K) weights of the label heatmaps.
        share: share of the crops that are changed. Crops and rectangles are drawn by torch's generator; a rectangle has
            0.3 to 0.7 of the height and of the width.

    Returns:
        the crops; the weights, 0 for crops with a rectangle.
    """
    chosen, other = torch.rand(len(x)) < share, torch.randperm(len(x))
    size, corner = 0.3 + 0.4 * torch.rand(len(x), 2), torch.rand(len(x), 2)
    sides = torch.tensor(x.shape[-2:])
    low = (corner * (1 - size) * sides).long()
    high = low + (size * sides).long()
    mixed = x.clone()
    for i in chosen.nonzero()[:, 0].tolist():
        (top, left), (bottom, right) = low[i].tolist(), high[i].tolist()
        mixed[i, :, top:bottom, left:right] = x[other[i], :, top:bottom, left:right]
    return mixed, torch.where(chosen[:, None].to(weight.device), 0.0, weight)
