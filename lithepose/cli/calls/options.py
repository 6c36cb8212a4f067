"""Options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from .help import SILENT

if TYPE_CHECKING:
    from ...drawing import DrawStyle
    from ...motion.table import MotionConfig


@dataclass(frozen=True)
class DrawOptions:
    """How people are drawn.

    Attributes:
        colour: colour of people: side (warm for left, cool for right), person, id, or one colour as #rrggbb.
        draw_boxes: draw the people's boxes.
        draw_scores: write the people's scores.
        line_width: line width, relative to the default.
        fade: draw joints and limbs with low scores fainter.
        hide_faces: pixelate the faces of the people found; people who are not found are not pixelated.
        background: draw on the image, on black, or on a transparent background (images only, as PNG).
        trails: seconds for which the paths of wrists and ankles stay visible in a video, with --track.
    """

    colour: str = "side"
    draw_boxes: Annotated[bool, SILENT] = False
    draw_scores: Annotated[bool, SILENT] = False
    line_width: float = 1.0
    fade: Annotated[bool, SILENT] = False
    hide_faces: Annotated[bool, SILENT] = False
    background: Literal["image", "black", "transparent"] = "image"
    trails: Annotated[float, SILENT] = 0.0

    def style(self) -> DrawStyle:
        """The same options for :func:`lithepose.draw`."""
        from ...drawing import DrawStyle

        boxes, scores, width = self.draw_boxes, self.draw_scores, self.line_width
        return DrawStyle(
            self.colour, boxes, scores, True, self.fade, width, self.hide_faces, self.background, self.trails
        )


@dataclass(frozen=True)
class MotionOptions:
    """Angles of joints in the image plane over time (docs/motion.md defines them).

    Attributes:
        angles: comma-separated names of angles, such as knee,elbow,left_hip; or all, joints or segments. Written to
            angles.csv.
        distances: comma-separated pairs of joints, such as left_wrist-nose or ankles. Written to distances.csv, in
            pixels and body lengths.
        fill: fill gaps of a joint that are not longer than this, in seconds, by linear interpolation.
        lowpass: cut-off frequency in Hz of a Butterworth low-pass filter on the joints, without delay.
        plot: .png, .svg or .pdf file for a plot of the angles over time.
    """

    angles: Annotated[str, SILENT] = ""
    distances: Annotated[str, SILENT] = ""
    fill: Annotated[float, SILENT] = 0.0
    lowpass: Annotated[float, SILENT] = 0.0
    plot: Annotated[Path | None, tyro.conf.arg(metavar="PATH"), SILENT] = None

    def config(self) -> MotionConfig:
        """The same options for :func:`lithepose.motion.table.curves_of`."""
        from ...motion.table import MotionConfig

        return MotionConfig(self.angles, self.distances, self.fill, self.lowpass)


def changed(options: Any) -> list[str]:
    """The flags of a group that differ from their defaults."""
    plain = type(options)()
    names = (f.name for f in fields(options))
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != getattr(plain, name)]
