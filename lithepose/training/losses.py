"""Losses over maps."""

from __future__ import annotations

import torch
from torch import Tensor


def map_loss(
    stages: list[tuple[Tensor, Tensor]],
    heatmaps: Tensor,
    fields: Tensor,
    heatmap_mask: Tensor,
    field_mask: Tensor,
    positive: float = 0.0,
) -> dict[str, Tensor]:
    """Masked squared error of every stage, summed over channels and averaged over batch and cells.

    Args:
        stages: predictions (heatmaps (N, K, h, w), fields (N, 2 L, h, w)).
        heatmaps: target (N, K, h, w).
        fields: target (N, 2 L, h, w).
        heatmap_mask: (N, K, h, w) bool, False where a data set says nothing.
        field_mask: (N, L, h, w) bool.
        positive: extra weight of a cell where the target is 1 (a joint covers few cells of a map).

    Returns:
        Scalars ``heatmaps`` and ``fields`` of the last stage, and ``total`` over all stages.
    """
    n, _, h, w = heatmaps.shape
    heat_weight = heatmap_mask * (1 + positive * heatmaps) / (n * h * w)
    strength = fields.unflatten(1, (-1, 2)).square().sum(2).sqrt()
    field_weight = (field_mask * (1 + positive * strength) / (n * h * w)).repeat_interleave(2, 1)
    total = torch.zeros((), device=heatmaps.device)
    heat = field = total
    for predicted_heat, predicted_fields in stages:
        heat = (heat_weight * (predicted_heat.float() - heatmaps).square()).sum()
        field = (field_weight * (predicted_fields.float() - fields).square()).sum()
        total = total + heat + field
    return {"total": total, "heatmaps": heat.detach(), "fields": field.detach()}
