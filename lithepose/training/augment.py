"""Augmentation: affine placement, mirroring with joint swap, aspect stretch, colour, body masking.

Every function draws from the generator that it is given, so a sample depends only on its number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import cv2
import numpy as np

from ..geometry import GREY


@dataclass(frozen=True)
class AugmentConfig:
    """Ranges and shares of the augmentations. Sizes are in pixels of the network's input."""

    person: tuple[float, float] = (56.0, 300.0)  # range of the longer side of the person that the crop is made around
    box: str = "annotated"  # where a person's size comes from: the annotated box, or the box of the joints
    jitter: float = 0.25  # largest shift of the person, as a share of the crop
    whole: float = 0.15  # share of crops that show the whole image instead
    whole_zoom: tuple[float, float] = (0.86, 1.35)  # zoom of a whole image, relative to the largest that fits
    whole_jitter: float = 0.1  # shift of a whole image; with 0 it lies in the upper left corner, as in prediction
    max_zoom: float = 2.6  # limit of enlargement: beyond it an image shows no more detail
    rotate: float = 30.0  # degrees
    rotate_share: float = 0.5
    flip: float = 0.5
    colour: float = 0.8  # share of crops with changed brightness, contrast, gamma and white balance
    grey: float = 0.05
    blur: float = 0.1
    mask_body: float = 0.15  # share of crops with a quadrangle of one colour (osokin2019context, body masking)
    permute: float = 0.0  # share of crops with colour channels in another order (osokin2019context)
    mask_joints: float = 0.0  # share of crops with one to three joints covered by squares (osokin2019context, rival)
    mask_fraction: float = 0.3  # largest distance of a corner from the quadrangle's centre, in widths of the crop
    mosaic: float = 0.3  # share of samples made of several images
    crop_zoom: tuple[float, float] = (0.75, 1.35)  # zoom of person crops, relative to inference
    crop_shift: float = 0.1  # largest shift of person crops, in widths and heights of the person
    half_body: float = 0.0  # share of person crops around the joints of one half of the body

    def still(self) -> AugmentConfig:
        """Return the same settings without randomness, for validation."""
        middle = math.sqrt(self.person[0] * self.person[1])
        names = "jitter whole_jitter rotate_share flip colour grey blur mask_body permute mask_joints mosaic".split()
        nothing = dict.fromkeys((*names, "crop_shift", "half_body"), 0.0)
        whole = float(self.whole >= 0.5)
        fixed = {"whole_zoom": (1.0, 1.0), "crop_zoom": (1.0, 1.0), "whole": whole}
        return replace(self, person=(middle, middle), **fixed, **nothing)


def random_stretch(rng: np.random.Generator) -> float:
    """Draw the width over height to restore to an image squashed to a square: mostly 4:3, then 3:4, then any."""
    kind = rng.random()
    if kind < 0.65:
        return 1.33 * math.exp(rng.normal(0, 0.08))
    if kind < 0.9:
        return 0.75 * math.exp(rng.normal(0, 0.08))
    return math.exp(rng.uniform(math.log(0.7), math.log(1.5)))


def _between(rng: np.random.Generator, span: tuple[float, float]) -> float:
    return math.exp(rng.uniform(math.log(span[0]), math.log(span[1])))


def placement(
    rng: np.random.Generator,
    config: AugmentConfig,
    size: tuple[int, int],
    box: np.ndarray | None,
    tile: tuple[int, int],
    stretch: float,
    person: tuple[float, float],
) -> np.ndarray:
    """Draw an affine map (2, 3) from image pixels to tile pixels.

    Args:
        size: (width, height) of the image.
        box: (x, y, w, h) of the person to crop around, or None for the whole image.
        tile: (width, height) to fill.
        stretch: width over height to restore to the image.
        person: range of the person's longer side in the tile.
    """
    wide, high = math.sqrt(stretch), 1 / math.sqrt(stretch)
    if box is None:
        centre = np.array([size[0] / 2, size[1] / 2])
        zoom = min(tile[0] / (size[0] * wide), tile[1] / (size[1] * high)) * _between(rng, config.whole_zoom)
        jitter = config.whole_jitter
    else:
        centre = box[:2] + box[2:] / 2
        side = max(box[2] * wide, box[3] * high, 8.0)
        zoom = _between(rng, person) / side
        jitter = config.jitter
    zoom = min(zoom, config.max_zoom / max(wide, high))
    angle = 0.0
    if rng.random() < config.rotate_share:
        angle = math.radians(rng.uniform(-config.rotate, config.rotate))
    c, s = math.cos(angle) * zoom, math.sin(angle) * zoom
    linear = np.array([[c * wide, -s * high], [s * wide, c * high]])
    if rng.random() < config.flip:
        linear[0] = -linear[0]
    target = np.array(tile) * (0.5 + rng.uniform(-jitter, jitter, 2))
    if box is None and not jitter:  # as lithepose.geometry.letterbox does
        corners = np.array([[-0.5, -0.5], [size[0] - 0.5, -0.5], [-0.5, size[1] - 0.5], np.array(size) - 0.5])
        return np.concatenate([linear, (-0.5 - (corners @ linear.T).min(0))[:, None]], 1)
    return np.concatenate([linear, (target - linear @ centre)[:, None]], 1)


def warp(image: np.ndarray, matrix: np.ndarray, tile: tuple[int, int]) -> np.ndarray:
    """Warp an image to a tile of (width, height); a strong reduction first averages areas, to avoid aliasing."""
    zoom = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if zoom < 0.6:
        h, w = image.shape[:2]
        small = cv2.resize(image, (max(1, round(w * zoom)), max(1, round(h * zoom))), interpolation=cv2.INTER_AREA)
        sx, sy = w / small.shape[1], h / small.shape[0]
        back = np.array([[sx, 0, sx / 2 - 0.5], [0, sy, sy / 2 - 0.5], [0, 0, 1]])
        image, matrix = small, matrix @ back
    return cv2.warpAffine(image, matrix, tile, flags=cv2.INTER_LINEAR, borderValue=(GREY, GREY, GREY))


def move_joints(joints: np.ndarray, matrix: np.ndarray, flip_order: tuple[int, ...]) -> np.ndarray:
    """Move joints (P, K, 3) by an affine map; if it mirrors, left and right joints are swapped."""
    moved = joints.copy()
    moved[..., :2] = joints[..., :2] @ matrix[:, :2].T + matrix[:, 2]
    return moved[:, list(flip_order)] if np.linalg.det(matrix[:, :2]) < 0 else moved


def move_boxes(boxes: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Move boxes (R, 4) x, y, w, h by an affine map; returns upright boxes around the moved corners."""
    x, y, w, h = boxes.T
    corners = np.stack(
        [np.stack([x, y], 1), np.stack([x + w, y], 1), np.stack([x, y + h], 1), boxes[:, :2] + boxes[:, 2:]], 1
    )
    moved = corners @ matrix[:, :2].T + matrix[:, 2]
    low, high = moved.min(1), moved.max(1)
    return np.concatenate([low, high - low], 1)


def change_colours(rng: np.random.Generator, config: AugmentConfig, image: np.ndarray) -> np.ndarray:
    """Change brightness, contrast, gamma and white balance with one table per channel; sometimes turn grey or blur."""
    if rng.random() < config.colour:
        ramp = np.arange(256, dtype=np.float32) / 255
        gamma, contrast, brightness = math.exp(rng.normal(0, 0.2)), math.exp(rng.normal(0, 0.2)), rng.normal(0, 0.08)
        gains = np.exp(rng.normal(0, 0.06, 3))
        base = (ramp**gamma - 0.5) * contrast + 0.5 + brightness
        tables = np.clip(base[:, None] * gains * 255, 0, 255).astype(np.uint8)
        image = cv2.LUT(image, tables[None])
    if rng.random() < config.grey:
        image = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    if rng.random() < config.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.5, 1.5))
    return image


def permute_channels(rng: np.random.Generator, config: AugmentConfig, image: np.ndarray) -> np.ndarray:
    """Put the colour channels into a random order."""
    return image[..., rng.permutation(3)] if rng.random() < config.permute else image


def mask_joints(rng: np.random.Generator, config: AugmentConfig, image: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """Cover one to three labelled joints of (P, K, 3) with grey squares of 5 to 10 % of the crop.

    An alternative to body masking in osokin2019context, table 1.
    """
    labelled = joints[joints[..., 2] > 0]
    if rng.random() >= config.mask_joints or not len(labelled):
        return image
    image = image.copy()
    for x, y, _ in rng.permutation(labelled)[: rng.integers(1, 4)]:
        half = rng.uniform(0.025, 0.05) * max(image.shape[:2])
        low, high = (
            np.maximum([x - half, y - half], 0).astype(int),
            np.maximum([x + half + 1, y + half + 1], 0).astype(int),
        )
        image[low[1] : high[1], low[0] : high[0]] = GREY
    return image


def mask_body(rng: np.random.Generator, config: AugmentConfig, image: np.ndarray) -> np.ndarray:
    """Cover one quadrangle near the middle with one colour (osokin2019context: body masking).

    The centre lies in the middle third of each axis. Each corner lies in its own quadrant.
    """
    if rng.random() >= config.mask_body:
        return image
    size = np.array([image.shape[1], image.shape[0]])
    centre = rng.uniform(1 / 3, 2 / 3, 2) * size
    reach = rng.uniform(0.01, config.mask_fraction, (4, 2)) * size
    corners = centre + reach * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    colour = (GREY, GREY, GREY) if rng.random() < 0.5 else tuple(int(v) for v in rng.integers(0, 256, 3))
    return cv2.fillConvexPoly(image.copy(), corners.round().astype(np.int32), colour)
