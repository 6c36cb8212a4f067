"""Poses -> image."""

from __future__ import annotations

import colorsys
import itertools
import re
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import cv2
import numpy as np

from .errors import ConfigError
from .guesses import with_hints
from .skeleton import FACE, Skeleton

SHIFT = 4  # OpenCV's fixed-point bits: joints are drawn at sixteenths of a pixel
DARK, WHITE = (40, 40, 40), (255, 255, 255)
FAINT = 0.25  # opacity of a joint with score 0, if style.fade is set
FACE_SIZE = 0.85  # radius of a hidden face, relative to the largest distance between its joints
Background = Literal["image", "black", "transparent"]
Colour = tuple[int, int, int]


class Drawable(Protocol):
    """The attributes of :class:`~lithepose.poses.Poses` that drawing uses."""

    @property
    def xy(self) -> np.ndarray:
        """(N, K, 2) joints."""
        ...

    @property
    def score(self) -> np.ndarray:
        """(N, K) scores of the joints."""
        ...

    @property
    def person_score(self) -> np.ndarray:
        """(N,) scores of the people."""
        ...

    @property
    def boxes(self) -> np.ndarray:
        """(N, 4) x, y, width, height."""
        ...

    @property
    def id(self) -> np.ndarray | None:
        """(N,) ids of the people, or None."""
        ...

    @property
    def skeleton(self) -> Skeleton:
        """Joints and edges."""
        ...

    def __len__(self) -> int: ...


@dataclass(frozen=True)
class DrawStyle:
    """How people are drawn.

    Attributes:
        colour: ``side`` (left warm, right cool, middle green), ``person`` (by index in the frame), ``id``, or one
            colour as ``#rrggbb``.
        boxes: draw boxes.
        scores: write scores of people.
        ids: write ids, if people have them.
        fade: draw joints and limbs with low scores fainter.
        width: line width, relative to the default.
        hide_faces: pixelate each face that has at least two found joints. People who are not found are not pixelated.
        background: ``image``, ``black``, or ``transparent``, which needs PNG files.
        trail: seconds for which the paths of ankles and wrists stay visible, for people with ids.
        guessed: joints with a lower score are drawn hollow.
    """

    colour: str = "side"
    boxes: bool = False
    scores: bool = False
    ids: bool = True
    fade: bool = False
    width: float = 1.0
    hide_faces: bool = False
    background: Background = "image"
    trail: float = 0.0
    guessed: float = 0.0

    def __post_init__(self) -> None:
        if self.colour not in ("side", "person", "id") and not re.fullmatch("#[0-9a-fA-F]{6}", self.colour):
            raise ConfigError(f"colour {self.colour!r}: must be side, person, id or #rrggbb")
        if self.background not in get_args(Background):
            raise ConfigError(f"background {self.background!r}: must be one of {', '.join(get_args(Background))}")
        if not 0 < self.width <= 20 or self.trail < 0:
            raise ConfigError(
                f"width {self.width}: must be above 0 and at most 20; trail {self.trail}: must be 0 or more"
            )


@with_hints
def draw(
    image: np.ndarray, poses: Drawable, *, threshold: float = 0.0, copy: bool = True, style: DrawStyle | None = None
) -> np.ndarray:
    """Draw people as limbs and joints, with their ids if they have any.

    Args:
        image: (H, W, 3) uint8 RGB, the image that the poses were found in.
        poses: what to draw.
        threshold: joints with a lower score are not drawn.
        copy: draw on a copy; otherwise draw on ``image`` itself, if it is writable.
        style: colours and other options.

    Returns:
        (H, W, 3) uint8 RGB; (H, W, 4) RGBA on a transparent background.
    """
    return Drawer(style)(image, poses, threshold=threshold, copy=copy)


class Drawer:
    """Draws frames one after another and remembers trails.

    Args:
        style: how people are drawn.
    """

    def __init__(self, style: DrawStyle | None = None) -> None:
        self.style = style or DrawStyle()
        self._trails: dict[tuple[int, int], deque[tuple[float, int, int]]] = {}

    def __call__(
        self,
        image: np.ndarray,
        poses: Drawable,
        time: float | None = None,
        *,
        threshold: float = 0.0,
        copy: bool = True,
    ) -> np.ndarray:
        """Draw one frame; the arguments are those of :func:`draw`.

        Args:
            image: the frame.
            poses: people in the frame.
            time: seconds from the start of the video, for trails.
            threshold: lowest score of a joint that is drawn.
            copy: whether to draw on a copy.
        """
        style = self.style
        if style.background != "image":
            canvas = np.zeros_like(image)
        else:
            canvas = image.copy() if copy or not image.flags.writeable else image
        if style.hide_faces and style.background == "image":
            for xy, score in zip(poses.xy, poses.score, strict=True):
                hide_face(canvas, poses.skeleton, xy, score)
        if style.trail and time is not None:
            self._draw_trails(canvas, poses, time)
        self._draw_people(canvas, poses, threshold)
        if style.background != "transparent":
            return canvas
        mask = np.zeros_like(image)
        self._draw_people(mask, poses, threshold, ink=WHITE)
        return np.concatenate([canvas, mask.max(2, keepdims=True)], 2)

    def _draw_people(self, canvas: np.ndarray, poses: Drawable, threshold: float, ink: Colour | None = None) -> None:
        style, numbers = self.style, [-1] * len(poses) if poses.id is None else poses.id.tolist()
        rows = zip(poses.xy, poses.score, poses.boxes, numbers, poses.person_score.tolist(), strict=True)
        for place, (xy, score, box, number, person_score) in enumerate(rows):
            # Lines grow with the person, so that a near face and a player far away both stay readable.
            largest = max(canvas.shape[:2]) / 150
            width = np.clip(np.hypot(box[2], box[3]) / 90, min(max(largest, 1), 2), max(largest, 1))
            width = max(1, int(width * style.width))
            own = ink or self._own_colour(place, number)
            colours = [own or colour for colour in poses.skeleton.edge_colours]
            seen = (score > threshold) & (score > 0)
            points = np.rint(np.nan_to_num(xy) * (1 << SHIFT)).astype(int).tolist()
            if style.boxes and box[2] > 0:
                low, high = np.rint(box[:2]).astype(int).tolist(), np.rint(box[:2] + box[2:]).astype(int).tolist()
                cv2.rectangle(canvas, low, high, own or (255, 210, 0), max(1, width // 2), cv2.LINE_AA)
            for (a, b), colour in zip(poses.skeleton.edges, colours, strict=True):
                if seen[a] and seen[b]:
                    self._limb(canvas, points[a], points[b], colour, width, min(score[a], score[b]))
            for k in np.flatnonzero(seen).tolist():
                self._joint(canvas, points[k], width, float(score[k]), ink)
            text = str(number) if style.ids and number >= 0 else ""
            text = f"{text} {person_score:.2f}".strip() if style.scores else text
            if text and seen.any():
                x, y = min((points[k] for k in np.flatnonzero(seen)), key=lambda point: point[1])
                _write_above(canvas, text, (x >> SHIFT, y >> SHIFT), width, ink)

    def _own_colour(self, place: int, number: int) -> Colour | None:
        """The colour of a person; None if each limb has its own colour."""
        colour = self.style.colour
        if colour == "side":
            return None
        if colour.startswith("#"):
            return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:], 16)
        at = number if colour == "id" and number >= 0 else place
        r, g, b = colorsys.hsv_to_rgb(0.07 + 0.618034 * at % 1.0, 0.8, 1.0)  # the golden ratio keeps neighbours apart
        return round(255 * r), round(255 * g), round(255 * b)

    def _limb(self, canvas: np.ndarray, a: list[int], b: list[int], colour: Colour, width: int, score: float) -> None:
        def line(part: np.ndarray, dx: int, dy: int) -> None:
            ends = ((x - (dx << SHIFT), y - (dy << SHIFT)) for x, y in (a, b))
            cv2.line(part, *ends, colour, width, cv2.LINE_AA, SHIFT)  # pyright: ignore[reportCallIssue]

        self._blend(canvas, [a, b], width + 2, score, line)

    def _joint(self, canvas: np.ndarray, point: list[int], width: int, score: float, ink: Colour | None) -> None:
        hollow = score < self.style.guessed

        def circle(part: np.ndarray, dx: int, dy: int) -> None:
            centre, radius = (point[0] - (dx << SHIFT), point[1] - (dy << SHIFT)), (width + 1) << SHIFT
            if not hollow:
                cv2.circle(part, centre, radius, ink or WHITE, -1, cv2.LINE_AA, SHIFT)
            cv2.circle(part, centre, radius, ink or (WHITE if hollow else DARK), 1, cv2.LINE_AA, SHIFT)

        self._blend(canvas, [point], width + 3, score, circle)

    def _blend(
        self,
        canvas: np.ndarray,
        points: list[list[int]],
        reach: int,
        score: float,
        put: Callable[[np.ndarray, int, int], None],
    ) -> None:
        """Draw on the canvas. If the style fades, blend the drawing with the canvas by the score.

        Args:
            canvas: image to draw on.
            points: points of the drawing, in 1/16 pixels; only the canvas around them is blended.
            reach: pixels that the drawing extends beyond the points.
            score: score of the joint or limb.
            put: draws on a part of the canvas that begins at pixel (dx, dy).
        """
        if not self.style.fade:
            put(canvas, 0, 0)
            return
        low = np.maximum((np.min(points, 0) >> SHIFT) - reach, 0)
        high = np.minimum((np.max(points, 0) >> SHIFT) + reach + 1, canvas.shape[1::-1])
        if (high <= low).any():
            return
        part = canvas[low[1] : high[1], low[0] : high[0]]
        drawn = part.copy()
        put(drawn, int(low[0]), int(low[1]))
        opacity = FAINT + (1 - FAINT) * min(max(score, 0.0), 1.0)
        part[:] = cv2.addWeighted(drawn, opacity, part, 1 - opacity, 0)

    def _draw_trails(self, canvas: np.ndarray, poses: Drawable, time: float) -> None:
        """Draw the paths of wrists and ankles over the last seconds; older parts are thinner."""
        ends = [k for k, joint in enumerate(poses.skeleton.joints) if joint.endswith(("wrist", "ankle"))]
        ids = [] if poses.id is None else poses.id.tolist()
        for place, number in enumerate(ids):
            for k in ends if number >= 0 else ():
                trail = self._trails.setdefault((number, k), deque())
                if poses.score[place, k] > 0:
                    trail.append((time, *np.rint(poses.xy[place, k]).astype(int).tolist()))
        for (number, k), trail in list(self._trails.items()):
            while trail and time - trail[0][0] > self.style.trail:
                trail.popleft()
            if not trail:
                del self._trails[number, k]
                continue
            colour = self._own_colour(number, number) or poses.skeleton.joint_colour(k)
            points = list(trail)
            for (_, *a), (when, *b) in itertools.pairwise(points):
                fresh = 1 - (time - when) / self.style.trail
                cv2.line(canvas, a, b, colour, max(1, round(3 * fresh * max(canvas.shape[:2]) / 600)), cv2.LINE_AA)


def hide_face(image: np.ndarray, skeleton: Skeleton, xy: np.ndarray, score: np.ndarray) -> None:
    """Pixelate a face in place, if at least two of its joints are found.

    Args:
        image: (H, W, 3) uint8.
        skeleton: names of the joints.
        xy: (K, 2) joints of a person.
        score: (K,) scores of the joints, 0 where not found.
    """
    face = [skeleton.joints.index(joint) for joint in FACE if joint in skeleton.joints]
    points = xy[[k for k in face if score[k] > 0]]
    if len(points) < 2:
        return
    middle = (points.min(0) + points.max(0)) / 2
    radius = max(FACE_SIZE * float(np.linalg.norm(points[:, None] - points, axis=2).max()), 4.0)
    high, wide = image.shape[:2]
    left, top = (int(max(value - 1.3 * radius, 0)) for value in middle)
    right, bottom = int(min(middle[0] + 1.3 * radius, wide)), int(min(middle[1] + 1.3 * radius, high))
    if right <= left or bottom <= top:
        return
    part = image[top:bottom, left:right]
    cells = max(1, round((right - left) / (2.6 * radius) * 6)), max(1, round((bottom - top) / (2.6 * radius) * 6))
    small = cv2.resize(part, cells, interpolation=cv2.INTER_AREA)
    coarse = cv2.resize(small, part.shape[1::-1], interpolation=cv2.INTER_NEAREST)
    y, x = np.mgrid[top:bottom, left:right]
    inside = ((x - middle[0]) / radius) ** 2 + ((y - middle[1]) / (1.3 * radius)) ** 2 <= 1
    part[inside] = coarse[inside]


def _write_above(canvas: np.ndarray, text: str, joint: tuple[int, int], width: int, ink: Colour | None = None) -> None:
    """Write white text with a dark rim, centred above a joint but inside the image, scaled by the line ``width``."""
    size, stroke = 0.35 + 0.15 * width, 1 + width // 2
    (wide, high), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, stroke)
    rim = 1 + width // 3  # the rim is text at offsets: not every OpenCV draws thicker strokes
    x = max(min(joint[0] - wide // 2, canvas.shape[1] - wide - rim), rim)
    y = max(min(joint[1] - 4 * width, canvas.shape[0] - 1 - rim), high + rim)
    places = [(x + dx, y + dy, ink or DARK) for dx in (-rim, 0, rim) for dy in (-rim, 0, rim) if dx or dy]
    for left, bottom, colour in (*places, (x, y, WHITE)):
        cv2.putText(canvas, text, (left, bottom), cv2.FONT_HERSHEY_SIMPLEX, size, colour, stroke, cv2.LINE_AA)


def tiled(images: Sequence[np.ndarray], across: int) -> np.ndarray:
    """Tile images of one size, ``across`` in a row; empty cells of the last row are grey."""
    height, width = images[0].shape[:2]
    down = -(-len(images) // across)
    canvas = np.full((down * height, min(across, len(images)) * width, 3), 128, np.uint8)
    for i, image in enumerate(images):
        y, x = divmod(i, across)
        canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = image
    return canvas
