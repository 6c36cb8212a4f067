"""Joints from the heatmaps of single people, inside the exported graph."""

from __future__ import annotations

import torch
from torch import Tensor


def joints_from_heatmaps(heatmaps: Tensor, stride: int, sigma: float) -> tuple[Tensor, Tensor]:
    """The highest cell of every map, refined below a cell.

    Along each axis the position is the top of the parabola through the logarithms of three cells, which is exact for a
    Gaussian. At the edge of the map the missing third follows from the known width of the Gaussian.

    Args:
        heatmaps: (N, K, h, w).
        stride: input pixels per cell.
        sigma: standard deviation of the Gaussians, in cells.

    Returns:
        xy (N, K, 2) in input pixels; score (N, K), the value of the highest cell, in [0, 1].
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.flatten(2)
    score, cell = flat.max(2)
    y = torch.div(cell, width, rounding_mode="floor")
    x = cell - y * width
    centre = torch.log(score.clamp(min=1e-6))

    def shift(at: Tensor, size: int, step: int) -> Tensor:
        def value(offset: int, inside: Tensor) -> Tensor:
            index = torch.where(inside, cell + offset * step, cell)
            return torch.log(flat.gather(2, index[..., None])[..., 0].clamp(min=1e-6))

        first, last = at == 0, at == size - 1
        lower, upper = value(-1, ~first), value(1, ~last)
        lower = torch.where(first, 2 * centre - upper - 1 / sigma**2, lower)
        upper = torch.where(last, 2 * centre - lower - 1 / sigma**2, upper)
        bend = (lower + upper - 2 * centre).clamp(max=-1e-6)
        return at + ((lower - upper) / (2 * bend)).clamp(-0.5, 0.5)

    cells = torch.stack([shift(x, width, 1), shift(y, height, width)], -1)
    return cells * stride + (stride / 2 - 0.5), score.clamp(0, 1)
