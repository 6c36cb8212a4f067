"""Poses -> image."""

from __future__ import annotations

from typing import Protocol

import cv2
import numpy as np

from .skeleton import Skeleton

SHIFT = 4  # OpenCV's fixed-point bits: joints are drawn at sixteenths of a pixel


class Drawable(Protocol):
    """What is drawn of :class:`~lithepose.poses.Poses`."""

    @property
    def xy(self) -> np.ndarray:
        """(N, K, 2) joints."""
        ...

    @property
    def score(self) -> np.ndarray:
        """(N, K) of the joints."""
        ...

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) x, y, width, height."""
        ...

    @property
    def id(self) -> np.ndarray | None:
        """(N,) numbers."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """Joints and edges."""
        ...

    def __len__(self) -> int: ...


def draw(image: np.ndarray, poses: Drawable, *, threshold: float = 0.0, copy: bool = True) -> np.ndarray:
    """Draw people as limbs and joints, and their ids where they have some.

    Args:
        image: (H, W, 3) uint8 RGB, the image that the poses were found in.
        poses: what to draw.
        threshold: joints of a lower score are left out.
        copy: draw on a copy; otherwise on ``image`` itself, if that can be written to.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    canvas = image.copy() if copy or not image.flags.writeable else image
    numbers = [-1] * len(poses) if poses.id is None else poses.id.tolist()
    for xy, score, box, number in zip(poses.xy, poses.score, poses.boxes, numbers, strict=True):
        # Lines grow with the person, so that a near face and a player far away both stay readable.
        largest = max(image.shape[:2]) / 150
        width = int(np.clip(np.hypot(box[2], box[3]) / 90, min(max(largest, 1), 2), max(largest, 1)))
        seen = (score > threshold) & (score > 0)
        points = np.rint(np.nan_to_num(xy) * (1 << SHIFT)).astype(int).tolist()
        for (a, b), colour in zip(poses.skeleton.edges, poses.skeleton.edge_colours, strict=True):
            if seen[a] and seen[b]:
                cv2.line(canvas, points[a], points[b], colour, width, cv2.LINE_AA, SHIFT)
        for k in np.flatnonzero(seen):
            cv2.circle(canvas, points[k], (width + 1) << SHIFT, (255, 255, 255), -1, cv2.LINE_AA, SHIFT)
            cv2.circle(canvas, points[k], (width + 1) << SHIFT, (40, 40, 40), 1, cv2.LINE_AA, SHIFT)
        if number >= 0 and seen.any():
            x, y = min((points[k] for k in np.flatnonzero(seen)), key=lambda point: point[1])
            _write_above(canvas, str(number), (x >> SHIFT, y >> SHIFT), width)
    return canvas


def _write_above(canvas: np.ndarray, text: str, joint: tuple[int, int], width: int) -> None:
    """White with a dark rim, in the middle above a joint, but whole; ``width`` of the lines as a measure."""
    size, stroke = 0.35 + 0.15 * width, 1 + width // 2
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, stroke)
    rim = 1 + width // 3  # by writing it around: not every OpenCV makes a stroke thicker
    x = max(min(joint[0] - wide // 2, canvas.shape[1] - wide - rim), rim)
    y = max(min(joint[1] - 4 * width, canvas.shape[0] - 1 - rim), high + rim)
    places = [(x + dx, y + dy, (40, 40, 40)) for dx in (-rim, 0, rim) for dy in (-rim, 0, rim) if dx or dy]
    for left, bottom, colour in (*places, (x, y, (255, 255, 255))):
        cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, colour, stroke, cv2.LINE_AA)
