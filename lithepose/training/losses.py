"""Losses over maps and coordinates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..heads import of_kind
from ..heads.boxes import BoxHead
from ..heads.heatmaps import HeatmapHead
from ..heads.pafs import PafHead
from ..heads.people import CoordinateHead, CropHead, InstanceHead
from ..networks import Network
from ..networks.person_detector import PersonDetector
from .config import Recipe
from .crops import gaussian_targets
from .detection import detection_loss
from .distill import with_teacher
from .samples import Batch


def losses(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Forward pass and loss of a batch, by the network's kind of output.

    Args:
        net: the network.
        called: the network, or its wrapper for several processes.
        x: (N, 3, H, W) scaled images.
        batch: samples and targets.
        recipe: supplies loss and precision.

    Returns:
        ``total``, to be minimised, and its parts.
    """
    return of_kind(LOSSES, net.head)(net, called, x, batch, recipe)


def _forward(called: nn.Module, x: Tensor, recipe: Recipe, *targets: Any) -> Any:
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        return called(x, *targets)


def instance_loss(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Sum of the losses of torchvision's detector."""
    labels = [torch.ones(len(b), dtype=torch.int64, device=x.device) for b in batch.targets["boxes"]]
    pairs = zip(batch.targets["boxes"], labels, batch.targets["keypoints"], strict=True)
    targets = [{"boxes": b, "labels": label, "keypoints": k} for b, label, k in pairs]
    parts = _forward(called, x, recipe, targets)
    return {"total": sum(parts.values(), x.new_zeros(()))} | {k: v.detach() for k, v in parts.items()}


def box_loss(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Loss of a person detector, see :func:`lithepose.training.detection.detection_loss`."""
    assert isinstance(net, PersonDetector)
    logits, boxes = _forward(called, x, recipe)
    return detection_loss(logits, boxes, batch.targets, *net.cells(x.shape[-2], x.shape[-1], x.device))


def crop_loss(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Squared error of heatmaps of person crops. Draws the targets and mixes them with a teacher's heatmaps."""
    stages = _forward(called, x, recipe)
    target = gaussian_targets(batch.targets["joints"], batch.targets["visible"], net.head, stages[-1][0].shape[-2:])
    weight, none = batch.targets["weight"], target[:, :0]
    if "taught" in batch.targets:
        target, weight = with_teacher(target, weight, batch.targets["taught"], recipe.distill.share)
    return map_loss(stages, target, none, weight[..., None, None], none, recipe.positive_weight, recipe.loss)


def heatmap_loss(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Squared error of heatmaps and, where there are some, part affinity fields."""
    stages, none = _forward(called, x, recipe), batch.targets["heatmaps"][:, :0]
    pafs, mask = batch.targets.get("pafs", none), batch.targets.get("paf_mask", none)
    targets = batch.targets["heatmaps"], pafs, batch.targets["heatmap_mask"], mask
    return map_loss(stages, *targets, positive=recipe.positive_weight, reduction=recipe.loss)


def map_loss(
    stages: list[tuple[Tensor, ...]],
    heatmaps: Tensor,
    pafs: Tensor,
    heatmap_mask: Tensor,
    paf_mask: Tensor,
    positive: float = 0.0,
    reduction: str = "cells",
) -> dict[str, Tensor]:
    """Masked squared error of every stage, summed over channels.

    Args:
        stages: predictions (heatmaps (N, K, h, w), pafs (N, 2 L, h, w)) per stage; pafs only if there are limbs.
        heatmaps: target (N, K, h, w).
        pafs: target (N, 2 L, h, w).
        heatmap_mask: (N, K, h, w) bool, False where a data set has no labels; or weights that broadcast to it.
        paf_mask: (N, L, h, w) bool.
        positive: extra weight of a cell where the target is 1 (a joint covers few cells of a heatmap).
        reduction: "cells" averages over batch and cells; "caffe" divides the sum by twice the batch, as Caffe's
            Euclidean loss does (choi2018binarized, huang2019mln, osokin2019context).

    Returns:
        Scalars ``heatmaps`` and, with limbs, ``pafs`` of the last stage, and ``total`` over all stages.
    """
    n, _, h, w = heatmaps.shape
    share = n * h * w if reduction == "cells" else 2 * n
    heat_weight = heatmap_mask * (1 + positive * heatmaps) / share
    strength = pafs.unflatten(1, (-1, 2)).square().sum(2).sqrt() if pafs.shape[1] else paf_mask.float()
    paf_weight = (paf_mask * (1 + positive * strength) / share).repeat_interleave(2, 1)
    total = torch.zeros((), device=heatmaps.device)
    parts: dict[str, Tensor] = {}
    for stage in stages:
        parts["heatmaps"] = (heat_weight * (stage[0].float() - heatmaps).square()).sum()
        if len(stage) > 1:
            parts["pafs"] = (paf_weight * (stage[1].float() - pafs).square()).sum()
        total = total + sum(parts.values())
    return {"total": total} | {name: value.detach() for name, value in parts.items()}


def regression_loss(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Squared error of coordinates."""
    return coordinate_loss(_forward(called, x, recipe), batch.targets["xy"], batch.targets["visible"])


def coordinate_loss(stages: list[tuple[Tensor]], xy: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Mean squared error of coordinates, given as shares of the image (debnath2018split's regression).

    Args:
        stages: predictions ((N, K, 2),) per stage.
        xy: target (N, K, 2).
        visible: (N, K) bool; other joints do not count.
    """
    total = torch.zeros((), device=xy.device)
    for (predicted,) in stages:
        total = total + (visible[..., None] * (predicted.float() - xy).square()).sum() / xy.numel()
    return {"total": total}


Loss = Callable[[Network, nn.Module, Tensor, Batch, Recipe], dict[str, Tensor]]
LOSSES: dict[type, Loss] = {
    HeatmapHead: heatmap_loss,
    PafHead: heatmap_loss,
    CropHead: crop_loss,
    CoordinateHead: regression_loss,
    InstanceHead: instance_loss,
    BoxHead: box_loss,
}
