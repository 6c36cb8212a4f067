"""Losses over maps and coordinates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..networks import Network
from ..networks.person_detector import PersonDetector
from .config import Recipe
from .crops import gaussian_targets
from .detection import detection_loss

Batch = dict[str, Any]  # of tensors as PoseSamples gives them, stacked; for a detector lists of tensors


def losses(net: Network, called: nn.Module, x: Tensor, batch: Batch, recipe: Recipe) -> dict[str, Tensor]:
    """Forward pass and loss of a batch.

    Args:
        net: the network.
        called: what is called in its place: itself, or its wrapper over several processes.
        x: (N, 3, H, W) scaled images.
        batch: targets.
        recipe: which loss, and in which precision.

    Returns:
        ``total``, to be minimised, and its parts.
    """
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bf16"):
        if net.kind == "boxes":
            labels = [torch.ones(len(b), dtype=torch.int64, device=x.device) for b in batch["boxes"]]
            pairs = zip(batch["boxes"], labels, batch["keypoints"], strict=True)
            parts = called(x, [{"boxes": b, "labels": one, "keypoints": k} for b, one, k in pairs])
            return {"total": sum(parts.values(), x.new_zeros(()))} | {k: v.detach() for k, v in parts.items()}
        stages = called(x)
    if isinstance(net, PersonDetector):
        (logits, boxes), (height, width) = stages, x.shape[-2:]
        return detection_loss(logits, boxes, batch, *net.cells(height, width, x.device))
    if "joints" in batch:
        shape = stages[-1][0].shape[-2:]
        target = gaussian_targets(batch["joints"], batch["visible"], net.head, shape)
        none = target[:, :0]
        return map_loss(stages, target, none, batch["weight"][..., None, None], none, recipe.positive, recipe.loss)
    if net.kind == "xy":
        return coordinate_loss(stages, batch["xy"], batch["visible"])
    targets = batch["heatmaps"], batch["fields"], batch["heatmap_mask"], batch["field_mask"]
    return map_loss(stages, *targets, positive=recipe.positive, reduction=recipe.loss)


def map_loss(
    stages: list[tuple[Tensor, ...]],
    heatmaps: Tensor,
    fields: Tensor,
    heatmap_mask: Tensor,
    field_mask: Tensor,
    positive: float = 0.0,
    reduction: str = "cells",
) -> dict[str, Tensor]:
    """Masked squared error of every stage, summed over channels.

    Args:
        stages: predictions (heatmaps (N, K, h, w), fields (N, 2 L, h, w)), the second only where there are limbs.
        heatmaps: target (N, K, h, w).
        fields: target (N, 2 L, h, w).
        heatmap_mask: (N, K, h, w) bool, False where a data set says nothing; or weights that broadcast to it.
        field_mask: (N, L, h, w) bool.
        positive: extra weight of a cell where the target is 1 (a joint covers few cells of a map).
        reduction: "cells" averages over batch and cells; "caffe" sums, over twice the batch, as Caffe's
            Euclidean loss does (choi2018binarized, huang2019mln, osokin2019context).

    Returns:
        Scalars ``heatmaps`` and, with limbs, ``fields`` of the last stage, and ``total`` over all stages.
    """
    n, _, h, w = heatmaps.shape
    share = n * h * w if reduction == "cells" else 2 * n
    heat_weight = heatmap_mask * (1 + positive * heatmaps) / share
    strength = fields.unflatten(1, (-1, 2)).square().sum(2).sqrt() if fields.shape[1] else field_mask.float()
    field_weight = (field_mask * (1 + positive * strength) / share).repeat_interleave(2, 1)
    total = torch.zeros((), device=heatmaps.device)
    parts: dict[str, Tensor] = {}
    for stage in stages:
        parts["heatmaps"] = (heat_weight * (stage[0].float() - heatmaps).square()).sum()
        if len(stage) > 1:
            parts["fields"] = (field_weight * (stage[1].float() - fields).square()).sum()
        total = total + sum(parts.values())
    return {"total": total} | {name: value.detach() for name, value in parts.items()}


def coordinate_loss(stages: list[tuple[Tensor]], xy: Tensor, visible: Tensor) -> dict[str, Tensor]:
    """Mean squared error of coordinates as shares of the image (debnath2018split's regression).

    Args:
        stages: predictions ((N, K, 2),).
        xy: target (N, K, 2).
        visible: (N, K) bool; other joints add nothing.
    """
    total = torch.zeros((), device=xy.device)
    for (predicted,) in stages:
        total = total + (visible[..., None] * (predicted.float() - xy).square()).sum() / xy.numel()
    return {"total": total}
