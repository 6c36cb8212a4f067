"""Plots angles over time with matplotlib."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError, MissingExtraError
from ..writers.overwrite import make_folder, named
from .table import Curves

MOST = 6  # most people in a plot; those with the most frames are drawn
SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuse a path that is not a plot's, and a plot without matplotlib, before the work starts.

    Raises:
        ConfigError: another suffix.
        MissingExtraError: matplotlib is not installed.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--plot {path}: unsupported file type; use one of {', '.join(SUFFIXES)}")
    try:
        import matplotlib.figure  # noqa: F401  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("--plot needs matplotlib: pip install 'lithepose[motion]'") from error


def plot_angles(path: Path, curves: list[Curves]) -> int:
    """Draw the angles of videos over time, one panel per person; the left side is solid, the right side dashed.

    Args:
        path: path of the image; its suffix sets the format.
        curves: curves of all people; the :data:`MOST` with the most frames are drawn.

    Returns:
        number of people that were left out.

    Raises:
        ConfigError: none of them is from a video.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # pyright: ignore[reportMissingImports]
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]

    people = [one for one in curves if one.track.id is not None and one.angles]
    if not people:
        raise ConfigError(f"--plot {path}: only people in videos can be plotted, and none was found")
    longest = sorted(people, key=lambda one: -len(one.track.times))[:MOST]
    shown = [one for one in people if one in longest]
    figure = Figure(figsize=(9, 1 + 2.6 * len(shown)), dpi=110, layout="constrained")
    FigureCanvasAgg(figure)
    panels: Any = figure.subplots(len(shown), squeeze=False)
    for axes, one in zip(panels[:, 0], shown, strict=True):
        names = dict.fromkeys(angle.name.removeprefix("left_").removeprefix("right_") for angle in one.angles)
        colours = {name: f"C{i % 10}" for i, name in enumerate(names)}
        for angle, degrees in one.angles.items():
            if np.isfinite(degrees).any():
                kind = angle.name.removeprefix("left_").removeprefix("right_")
                style = "--" if angle.name.startswith("right_") else "-"
                axes.plot(one.track.times, degrees, style, label=angle.name, color=colours[kind], linewidth=1.3)
        axes.set(title=one.name, xlabel="seconds", ylabel="degrees")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize="small", frameon=False)
    make_folder(path.parent)
    with named(path):
        figure.savefig(path)
    return len(people) - len(shown)
