"""Curves as images, by matplotlib."""

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
    """Write named curves as one image.

    Args:
        path: of the image; its suffix decides the format (png, svg, pdf).
        x: shared by all curves, or by name.
        curves: values by name.
        x_label: of the axis.
        y_label: likewise.
        log: logarithmic y axis.

    Raises:
        MissingExtraError: matplotlib is missing.
        ConfigError: a suffix that is no image's.
    """
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # pyright: ignore[reportMissingImports]
        from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("curves need matplotlib: pip install 'lithepose[evaluate]'") from error
    figure = Figure(figsize=(6.4, 4.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes: Any = figure.add_subplot()
    for name, values in curves.items():
        axes.plot(x[name] if isinstance(x, Mapping) else x, values, label=name)
    axes.set(xlabel=x_label, ylabel=y_label, yscale="log" if log else "linear")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path)
