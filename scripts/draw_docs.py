"""Drawings of the documentation: concepts, the flow of data, and the joint order of every skeleton.

    python scripts/draw_docs.py

Writes SVG files to ``docs/images``. They depend only on the package, so a test draws them again and compares.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

import tyro

from lithepose.skeleton import SKELETONS, Skeleton

IMAGES = Path(__file__).parents[1] / "docs" / "images"
TEXT, LINE, FILL, ACCENT = "#1c2b36", "#5b7083", "#eef3f7", "#d9eaf7"
STYLE = f"<style>text{{font-family:system-ui,sans-serif;fill:{TEXT}}}</style>"

# Positions of joints of a person who faces the reader, in a box of 1 x 1; the person's left is on the right.
PLACES = {
    "nose": (0.50, 0.16), "eye": (0.55, 0.11), "ear": (0.62, 0.15), "neck": (0.50, 0.30), "upper_neck": (0.50, 0.27),
    "head_top": (0.50, 0.04), "thorax": (0.50, 0.36), "shoulder": (0.66, 0.33), "elbow": (0.77, 0.46),
    "wrist": (0.86, 0.58), "pelvis": (0.50, 0.58), "mid_hip": (0.50, 0.58), "hip": (0.59, 0.59), "knee": (0.63, 0.76),
    "ankle": (0.66, 0.90), "big_toe": (0.71, 0.96), "small_toe": (0.79, 0.95), "heel": (0.64, 0.97),
}  # fmt: skip


def main(out: Path = IMAGES) -> None:
    """Draw all files.

    Args:
        out: output folder.
    """
    (out / "skeletons").mkdir(parents=True, exist_ok=True)
    for skeleton in SKELETONS.values():
        write(out / "skeletons" / f"{skeleton.name}.svg", skeleton_svg(skeleton))
    write(out / "concepts.svg", concepts())
    write(out / "flow.svg", flow())


def write(path: Path, svg: str) -> None:
    """Write one file."""
    path.write_text(svg, encoding="utf-8", newline="\n")


def place(joint: str) -> tuple[float, float]:
    """Return the position of a joint.

    Raises:
        KeyError: the table above lacks the joint.
    """
    side, _, part = joint.partition("_")
    if side not in ("left", "right"):
        return PLACES[joint]
    x, y = PLACES[part]
    return (x, y) if side == "left" else (1 - x, y)


def skeleton_svg(skeleton: Skeleton) -> str:
    """Draw the skeleton with the numbers of its joints, and a list of their names."""
    width, height, top = 360, 440, 20
    rows = len(skeleton)
    total = max(height, 34 + 17 * rows)
    at = [(20 + x * 320, top + y * 400) for x, y in map(place, skeleton.joints)]
    parts = [STYLE]
    for (a, b), colour in zip(skeleton.edges, skeleton.edge_colours, strict=True):
        (x1, y1), (x2, y2) = at[a], at[b]
        rgb = "rgb({},{},{})".format(*colour)
        parts.append(
            f'<line x1="{x1:.0f}" y1="{y1:.0f}" x2="{x2:.0f}" y2="{y2:.0f}" stroke="{rgb}" stroke-width="4"'
            ' stroke-linecap="round" opacity="0.8"/>'
        )
    for k, (x, y) in enumerate(at):
        parts.append(f'<circle cx="{x:.0f}" cy="{y:.0f}" r="9" fill="white" stroke="{LINE}" stroke-width="1.5"/>')
        parts.append(f'<text x="{x:.0f}" y="{y + 4:.0f}" font-size="11" text-anchor="middle">{k}</text>')
    for k, name in enumerate(skeleton.joints):
        parts.append(f'<text x="{width + 20}" y="{top + 14 + 17 * k}" font-size="13">{k}  {escape(name)}</text>')
    parts.append('<text x="30" y="16" font-size="12">right side</text>')
    parts.append(f'<text x="{width - 30}" y="16" font-size="12" text-anchor="end">left side</text>')
    title = f"{skeleton.name}: order of joints"
    return document(width + 170, total, parts, title)


def document(width: int, height: int, parts: list[str], title: str) -> str:
    """Return an SVG with a white background, which is readable on dark pages."""
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" width="{width}">'
    ground = f'<rect width="{width}" height="{height}" rx="8" fill="white"/>'
    marker = (
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
        f'<path d="M0 0L8 4L0 8z" fill="{LINE}"/></marker></defs>'
    )
    return "\n".join([head, f"<title>{escape(title)}</title>", marker, ground, *parts, "</svg>", ""])


def box(x: int, y: int, width: int, height: int, lines: tuple[str, ...], fill: str = FILL) -> str:
    """Draw a box with centred lines, the first of them bold."""
    parts = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="7" fill="{fill}" stroke="{LINE}"/>']
    first = y + height / 2 + 5 - 9 * (len(lines) - 1)
    for i, line in enumerate(lines):
        weight = ' font-weight="600"' if i == 0 else ""
        size = 15 if i == 0 else 12
        parts.append(
            f'<text x="{x + width / 2:.0f}" y="{first + 18 * i:.0f}" font-size="{size}"{weight} text-anchor="middle">'
            f"{escape(line)}</text>"
        )
    return "\n".join(parts)


def arrow(*points: tuple[int, int], label: str = "") -> str:
    """Draw a line through points with an arrow head at its end; the label stands above its middle."""
    path = " ".join(f"{x},{y}" for x, y in points)
    line = f'<polyline points="{path}" fill="none" stroke="{LINE}" stroke-width="1.6" marker-end="url(#tip)"/>'
    if not label:
        return line
    x, y = (points[0][0] + points[-1][0]) // 2, min(points[0][1], points[-1][1]) - 7
    return f'{line}\n<text x="{x}" y="{y}" font-size="12" text-anchor="middle">{escape(label)}</text>'


def concepts() -> str:
    """Draw encode -> network -> decode: the role of a head in training and in prediction."""
    parts = [
        STYLE,
        '<text x="24" y="32" font-size="14" font-weight="600">Training</text>',
        box(24, 48, 130, 64, ("annotations", "joints in pixels")),
        arrow((154, 80), (226, 80)),
        box(228, 48, 150, 64, ("head.encode", "joints to targets"), ACCENT),
        arrow((378, 80), (452, 80)),
        box(454, 48, 130, 64, ("targets", "maps, coordinates")),
        arrow((519, 112), (519, 166)),
        '<text x="530" y="144" font-size="12">loss</text>',
        '<text x="24" y="160" font-size="14" font-weight="600">Both</text>',
        box(24, 170, 130, 64, ("image", "letterbox or crop")),
        arrow((154, 202), (226, 202)),
        box(228, 170, 150, 64, ("network", "torch, ONNX, bits"), ACCENT),
        arrow((378, 202), (452, 202)),
        box(454, 170, 130, 64, ("outputs", "maps, coordinates")),
        '<text x="24" y="284" font-size="14" font-weight="600">Prediction</text>',
        arrow((519, 234), (519, 294)),
        box(454, 296, 130, 64, ("head.decode", "peaks, grouping"), ACCENT),
        arrow((454, 328), (380, 328)),
        box(228, 296, 150, 64, ("to the image", "undo letterbox, crop")),
        arrow((228, 328), (156, 328)),
        box(24, 296, 130, 64, ("Poses", "xy, score, ids")),
    ]
    return document(608, 380, parts, "encode, network, decode")


def flow() -> str:
    """Draw the data between the parts of the package, from media to writers, and in training."""
    parts = [
        STYLE,
        box(20, 20, 150, 58, ("media", "images, videos, cameras")),
        arrow((170, 49), (206, 49)),
        box(208, 20, 150, 58, ("geometry", "letterbox, crops")),
        arrow((358, 49), (394, 49)),
        box(396, 20, 170, 58, ("runtime", "ONNX, OpenVINO, torch")),
        arrow((566, 49), (602, 49)),
        box(604, 20, 120, 58, ("heads", "decode"), ACCENT),
        arrow((664, 78), (664, 112)),
        box(604, 114, 120, 44, ("poses",)),
        arrow((604, 136), (568, 136)),
        box(396, 114, 170, 44, ("tracking",)),
        arrow((396, 136), (360, 136)),
        box(208, 114, 150, 44, ("drawing, writers",)),
        box(20, 210, 150, 58, ("data", "annotations, images")),
        arrow((170, 239), (206, 239)),
        box(208, 210, 150, 58, ("training", "samples, augmentation")),
        arrow((358, 239), (394, 239)),
        box(396, 210, 170, 58, ("heads", "encode"), ACCENT),
        arrow((566, 239), (602, 239)),
        box(604, 210, 120, 58, ("training", "loss, optimizer")),
        box(604, 312, 120, 44, ("networks",)),
        arrow((664, 312), (664, 270)),
        arrow((724, 334), (780, 334), (780, 8), (481, 8), (481, 18), label=""),
        '<text x="774" y="190" font-size="12" text-anchor="end">exporters</text>',
    ]
    return document(800, 376, parts, "data flow through the package")


if __name__ == "__main__":
    tyro.cli(main)
