"""Generated images of the documentation: `python scripts/docs_images.py` writes them to docs/images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

import lithepose
from lithepose.motion.angles import HORIZONTAL, Angle, available, measure
from lithepose.skeleton import COCO_17, MIDPOINTS, Skeleton

ROOT = Path(__file__).parents[1]
IMAGES = ROOT / "docs" / "images"
SAMPLES = ROOT / "lithepose" / "samples"
WIDTH, HEIGHT = 250, 250  # of a tile
STYLES = {  # flags -> the resulting style
    "(default)": {},
    "--colour person": {"colour": "person"},
    "--colour #ff4fa0": {"colour": "#ff4fa0"},
    "--draw-boxes --draw-scores": {"boxes": True, "scores": True},
    "--line-width 2": {"width": 2.0},
    "--fade": {"fade": True},
    "--hide-faces": {"hide_faces": True},
    "--background black": {"background": "black"},
}


def styles() -> np.ndarray:
    """Return (H, W, 3) RGB: the sample image in every style, four per row."""
    image = lithepose.read_image(SAMPLES / "astronaut.jpg")
    poses = lithepose.load(threads=1)(image)
    tiles = []
    for name, options in STYLES.items():
        style = lithepose.DrawStyle(**options)  # pyright: ignore[reportArgumentType]
        drawn = cv2.resize(lithepose.draw(image, poses, style=style)[:440, 30:470], (WIDTH, HEIGHT), None, 0, 0, 3)
        label = np.full((26, WIDTH, 3), 255, np.uint8)
        cv2.putText(label, name, (4, 18), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (0, 0, 0), 1, cv2.LINE_AA)
        tile = np.concatenate([label, drawn])
        tiles.append(cv2.copyMakeBorder(tile, 0, 6, 3, 3, cv2.BORDER_CONSTANT, None, [255] * 3))
    return np.concatenate([np.concatenate(tiles[row : row + 4], 1) for row in range(0, len(tiles), 4)])


def runner() -> dict[str, tuple[float, float]]:
    """Return the joints of a person who runs to the right, in a unit square, with y downwards."""
    return {
        "left_shoulder": (0.50, 0.22), "left_elbow": (0.28, 0.33), "left_wrist": (0.30, 0.50),
        "left_hip": (0.45, 0.52), "left_knee": (0.62, 0.66), "left_ankle": (0.55, 0.86),
        "right_hip": (0.45, 0.52), "right_knee": (0.40, 0.72), "right_ankle": (0.20, 0.80),
        "right_shoulder": (0.50, 0.22), "right_elbow": (0.60, 0.38), "right_wrist": (0.74, 0.32),
        "nose": (0.57, 0.12),
    }  # fmt: skip


def angles_panel(axes: Any, skeleton: Skeleton, names: tuple[str, ...], title: str) -> None:
    """Draw the runner with an arc for each angle, from its reference direction to its segment."""
    joints = {name: np.array(place) for name, place in runner().items()}
    joints["neck"], joints["mid_hip"] = joints["left_shoulder"], joints["left_hip"]
    xy = np.array([[joints.get(name, (np.nan, np.nan)) for name in skeleton.joints]], float)
    for a, b in (("shoulder", "elbow"), ("elbow", "wrist"), ("shoulder", "hip"), ("hip", "knee"), ("knee", "ankle")):
        for side, colour in (("right", "#9fc5e8"), ("left", "#e69138")):
            ends = np.array([joints[f"{side}_{a}"], joints[f"{side}_{b}"]])
            axes.plot(*ends.T, color=colour, linewidth=5, solid_capstyle="round")
    axes.add_patch(_circle(joints["nose"] + (-0.02, 0), 0.055))
    found = {angle.name: angle for angle in available(skeleton)}
    for name in names:
        draw_angle(axes, found[name], joints, float(measure(found[name], xy, skeleton)[0]))
    axes.set(xlim=(0.0, 1.0), ylim=(1.0, 0.02), title=title, aspect="equal")
    axes.axis("off")


def real_panel(axes: Any, names: tuple[str, ...]) -> None:
    """Draw the same for a person found in an image."""
    image = lithepose.read_image(SAMPLES / "camera.jpg")
    poses = lithepose.load(threads=1)(image)[0]
    axes.imshow(lithepose.draw(image, poses), extent=(0, 1, 1, 0))
    xy = poses.xy.astype(float) / max(poses.size)
    joints = {name: xy[0, k] for k, name in enumerate(poses.joints)}
    for name, ends in MIDPOINTS.items():
        joints[name] = np.mean([joints[end] for end in ends], 0)
    found = {angle.name: angle for angle in available(poses.skeleton)}
    for name in names:
        draw_angle(axes, found[name], joints, float(measure(found[name], xy, poses.skeleton)[0]), "white")
    axes.set(xlim=(0.05, 0.85), ylim=(0.92, 0.05), title="measured in an image", aspect="equal")
    axes.axis("off")


def _circle(middle: np.ndarray, radius: float) -> Any:
    from matplotlib.patches import Circle

    return Circle(middle.tolist(), radius, fill=False, color="#777777", linewidth=2)


def draw_angle(axes: Any, angle: Angle, joints: dict[str, np.ndarray], degrees: float, colour: str = "black") -> None:
    """Draw a dashed line for the base, an arc with an arrow to the segment, and the number."""
    at = joints[angle.to[0]]
    way = np.array([1.0, 0.0])
    if angle.base != HORIZONTAL:
        way = joints[angle.base[1]] - joints[angle.base[0]]
    start = np.arctan2(-way[1], way[0])
    radius = 0.085
    turns = start + np.radians(np.linspace(0, degrees, 60))
    arc = at + radius * np.stack([np.cos(turns), -np.sin(turns)], 1)
    reach = at + 1.5 * radius * np.array([np.cos(start), -np.sin(start)])
    axes.plot(*np.stack([at, reach]).T, "--", color=colour, linewidth=1)
    axes.plot(*arc[:-6].T, "-", color=colour, linewidth=1.2)
    axes.annotate("", arc[-1], arc[-8], arrowprops={"arrowstyle": "-|>", "color": colour, "lw": 1})
    middle = at + 2.05 * radius * np.array([np.cos(turns[30]), -np.sin(turns[30])])
    kind = angle.name.removeprefix("left_").removeprefix("right_")
    axes.text(*middle, f"{kind}\n{degrees:+.0f}", ha="center", va="center", fontsize=8, color=colour)


def angles() -> Any:
    """Make a figure of the definitions: joints, segments, and joints of a person in an image."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.4, 4.2), dpi=100, layout="constrained")
    left, right, real = figure.subplots(1, 3)
    joints = ("left_knee", "left_hip", "left_elbow", "left_shoulder", "right_knee")
    angles_panel(left, COCO_17, joints, "joint angles: against the straight limb")
    segments = ("left_thigh", "left_shank", "trunk", "right_forearm")
    angles_panel(right, COCO_17, segments, "segment angles: against the horizontal")
    real_panel(real, ("left_elbow", "left_hip", "right_elbow"))
    return figure


def main() -> None:
    cv2.imwrite(str(IMAGES / "styles.jpg"), styles()[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    angles().savefig(IMAGES / "angles.jpg", pil_kwargs={"quality": 88})


if __name__ == "__main__":
    main()
