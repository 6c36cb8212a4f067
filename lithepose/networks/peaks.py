"""Joints from the heatmaps of single people, inside the exported graph."""

from __future__ import annotations

import torch
from torch import Tensor


def joints_from_heatmaps(heatmaps: Tensor, stride: int, sigma: float, shuffle: int = 1) -> tuple[Tensor, Tensor]:
    """The highest cell of every map, refined below a cell.

    Along each axis the position is the top of the parabola through the logarithms of three cells, which is exact for a
    Gaussian. At the edge of the map the missing third follows from the known width of the Gaussian.

    Args:
        heatmaps: (N, K, h, w); or (N, K r^2, h / r, w / r) as they are before a pixel shuffle by r, which costs a copy
            of the maps.
        stride: input pixels per cell.
        sigma: standard deviation of the Gaussians, in cells.
        shuffle: r.

    Returns:
        xy (N, K, 2) in input pixels; score (N, K), the value of the highest cell, in [0, 1].
    """
    height, width = heatmaps.shape[-2:]
    flat = heatmaps.unflatten(1, (-1, shuffle**2)).flatten(2)
    score, highest = flat.max(2)
    phase, rest = _divide(highest, height * width)
    row, column = _divide(rest, width)
    y, x = row * shuffle + phase // shuffle, column * shuffle + phase % shuffle
    height, width = height * shuffle, width * shuffle

    def index(y: Tensor, x: Tensor) -> Tensor:
        (row, row_phase), (column, column_phase) = _divide(y, shuffle), _divide(x, shuffle)
        inside = row * (width // shuffle) + column
        return (row_phase * shuffle + column_phase) * ((height // shuffle) * (width // shuffle)) + inside

    neighbours = [
        index(y, (x - 1).clamp(min=0)),
        index(y, (x + 1).clamp(max=width - 1)),
        index((y - 1).clamp(min=0), x),
        index((y + 1).clamp(max=height - 1), x),
    ]
    left, right, above, below = flat.gather(2, torch.stack(neighbours, -1)).clamp(min=1e-6).log().unbind(-1)
    centre = score.clamp(min=1e-6).log()

    def refined(at: Tensor, last: int, lower: Tensor, upper: Tensor) -> Tensor:
        lower = torch.where(at == 0, 2 * centre - upper - 1 / sigma**2, lower)
        upper = torch.where(at == last, 2 * centre - lower - 1 / sigma**2, upper)
        bend = (lower + upper - 2 * centre).clamp(max=-1e-6)
        return at + ((lower - upper) / (2 * bend)).clamp(-0.5, 0.5)

    cells = torch.stack([refined(x, width - 1, left, right), refined(y, height - 1, above, below)], -1)
    return cells * stride + (stride / 2 - 0.5), score.clamp(0, 1)


def _divide(value: Tensor, by: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of whole numbers of 0 or more."""
    quotient = torch.div(value, by, rounding_mode="floor")
    return quotient, value - quotient * by
