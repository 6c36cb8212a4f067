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
        colour: of people: side (left warm, right cool), person, id, or one as #rrggbb.
        draw_boxes: draw the people's boxes.
        draw_scores: write the people's scores.
        line_width: of lines, relative to the default.
        fade: draw joints and limbs the fainter the lower their scores.
        hide_faces: pixelate the faces of the people found; people who are not found are not pixelated.
        background: draw on the image, on black, or transparent (images alone, as PNG).
        trails: seconds for which the ways of wrists and ankles stay visible in a video, with --track.
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
        """The same for :func:`lithepose.draw`."""
        from ...drawing import DrawStyle

        boxes, scores, width = self.draw_boxes, self.draw_scores, self.line_width
        return DrawStyle(
            self.colour, boxes, scores, True, self.fade, width, self.hide_faces, self.background, self.trails
        )


@dataclass(frozen=True)
class MotionOptions:
    """Angles over time, of the joints in the image plane (docs/motion.md defines them).

    Attributes:
        angles: knee, elbow, left_hip and so on, with commas; or all, joints, segments: written to angles.csv.
        distances: pairs as left_wrist-nose, or ankles, with commas, in pixels and body lengths: distances.csv.
        fill: seconds of gaps of a joint that are closed by a straight line.
        lowpass: Hz, cut-off of a Butterworth low pass without delay on the joints.
        plot: .png, .svg or .pdf for the angles over time.
    """

    angles: Annotated[str, SILENT] = ""
    distances: Annotated[str, SILENT] = ""
    fill: Annotated[float, SILENT] = 0.0
    lowpass: Annotated[float, SILENT] = 0.0
    plot: Annotated[Path | None, tyro.conf.arg(metavar="PATH"), SILENT] = None

    def config(self) -> MotionConfig:
        """The same for :func:`lithepose.motion.table.curves_of`."""
        from ...motion.table import MotionConfig

        return MotionConfig(self.angles, self.distances, self.fill, self.lowpass)


def changed(options: Any) -> list[str]:
    """The flags of a group that differ from their defaults."""
    plain = type(options)()
    names = (f.name for f in fields(options))
    return [f"--{name.replace('_', '-')}" for name in names if getattr(options, name) != getattr(plain, name)]
