"""Plots with matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import MissingExtraError


def lines(
    path: str | Path,
    x: Sequence[float] | np.ndarray | Mapping[str, Sequence[float]],
    curves: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    log: bool = False,
) -> None:
    """Plot named curves.

    Args:
        path: output image; its suffix sets the format (png, svg, pdf).
        x: x values, shared by all curves or by name.
        curves: values by name.
        x_label: label of the x axis.
        y_label: label of the y axis.
        log: logarithmic y axis.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigError: the suffix is not an image format.
    """
    figure = _figure((6.4, 4.2))
    axes: Any = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(x[name] if isinstance(x, Mapping) else x, values, label=name)
    axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)


def bars(path: str | Path, values: Mapping[str, Mapping[str, float]], y_label: str, log: bool = False) -> None:
    """Plot groups of bars.

    Args:
        path: output image; its suffix sets the format (png, svg, pdf).
        values: for every series, values by group; a group without a value has no bar.
        y_label: label of the y axis.
        log: logarithmic y axis.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    figure = _figure((max(6.4, 1.0 * max(map(len, values.values()))), 4.2))
    axes: Any = figure.add_subplot()
    groups = list(dict.fromkeys(group for series in values.values() for group in series))
    width = 0.8 / len(values)
    for i, (name, series) in enumerate(values.items()):
        at = [groups.index(group) + (i - (len(values) - 1) / 2) * width for group in series]
        axes.bar(at, list(series.values()), width, label=name)
    axes.set_xticks(range(len(groups)), groups, rotation=30 if max(map(len, groups)) > 10 else 0, ha="right")
    axes.set(ylabel=y_label, yscale="log" if log else "linear")
    axes.grid(axis="y", alpha=0.3)
    axes.legend()
    figure.savefig(path)


def grid(path: str | Path, images: Sequence[Sequence[tuple[str, np.ndarray]]]) -> None:
    """Write rows of images, each with a title, as one image.

    Args:
        path: output image; its suffix sets the format (png, svg, pdf).
        images: rows of (title, (H, W, 3) uint8 or (H, W) float of 0 to 1).

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    across = max(map(len, images))
    heights = [2.4 * max(image.shape[0] / image.shape[1] for _, image in row) + 0.3 for row in images]
    figure = _figure((2.4 * across, sum(heights)))
    panels: Any = figure.subplots(len(images), across, squeeze=False)
    for row, shown in zip(panels, images, strict=True):
        for axes in row:
            axes.set_axis_off()
        for axes, (title, image) in zip(row, shown, strict=False):
            axes.imshow(image, cmap="magma" if image.ndim == 2 else None, vmin=0, vmax=1 if image.ndim == 2 else None)
            axes.set_title(title, fontsize=8)
    figure.savefig(path)


def _figure(size: tuple[float, float]) -> Any:
    """Make an empty figure of this size in inches, with a canvas that needs no display."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # pyright: ignore[reportMissingImports]
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("plots need matplotlib: pip install 'lithepose[evaluate]'") from error
    figure = Figure(figsize=size, dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    return figure
