"""Person crops: from a box in an image to a network's input of fixed size, and back.

Coordinates: the centre of the top left pixel is (0, 0), as everywhere in this package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from .arrays import Float, Float64, Real, UInt8

CROP_MARGIN = 1.25  # side of a crop relative to the person's box, as is common in training of top-down networks


@dataclass(frozen=True, eq=False)
class PersonCrop:
    """Position of a single-person network's input in its image.

    Attributes:
        width: width of the image.
        height: height of the image.
        matrix: (2, 3) affine map without rotation, image pixels to input pixels.
    """

    width: int
    height: int
    matrix: Float[np.ndarray, "2 3"]

    @property
    def scale_x(self) -> float:
        """Input pixels per image pixel, horizontally."""
        return float(self.matrix[0, 0])

    @property
    def scale_y(self) -> float:
        """Input pixels per image pixel, vertically."""
        return float(self.matrix[1, 1])

    def to_input(self, xy: Real[np.ndarray, "*n 2"]) -> Real[np.ndarray, "*n 2"]:
        """(..., 2) image pixels -> input pixels."""
        return xy * self.matrix[[0, 1], [0, 1]] + self.matrix[:, 2]

    def to_image(self, xy: Real[np.ndarray, "*n 2"]) -> Real[np.ndarray, "*n 2"]:
        """(..., 2) input pixels -> image pixels; the inverse of :meth:`to_input`."""
        return (xy - self.matrix[:, 2]) / self.matrix[[0, 1], [0, 1]]


def crop_matrix(
    box: Sequence[float] | np.ndarray, shape: tuple[int, ...], margin: float = CROP_MARGIN
) -> Float64[np.ndarray, "2 3"]:
    """Affine map from image pixels to the pixels of a crop that keeps the aspect and shows the whole box.

    Args:
        box: x, y, width, height in image pixels.
        shape: (height, width) of the crop.
        margin: the box, extended to the crop's aspect, is enlarged by this factor.

    Returns:
        (2, 3) float64 translation and scale: ``x' = zoom * (x - centre) + (width - 1) / 2``.
    """
    x, y, w, h = (float(value) for value in box)
    height, width = shape
    zoom = min(width / max(w, 1e-3), height / max(h, 1e-3)) / margin
    centre_x, centre_y = x + w / 2, y + h / 2
    return np.array(
        [[zoom, 0, (width - 1) / 2 - zoom * centre_x], [0, zoom, (height - 1) / 2 - zoom * centre_y]], float
    )


def invert(matrix: Float[np.ndarray, "*n 2 3"]) -> Float[np.ndarray, "*n 2 3"]:
    """Inverse of an affine map (..., 2, 3)."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def apply(matrix: Float[np.ndarray, "2 3"], xy: Real[np.ndarray, "*n 2"]) -> Real[np.ndarray, "*n 2"]:
    """Map points (..., 2) by an affine map (2, 3)."""
    return xy @ matrix[:, :2].T + matrix[:, 2]


def warp(
    image: UInt8[np.ndarray, "h w 3"], matrix: Float[np.ndarray, "2 3"], shape: tuple[int, ...]
) -> UInt8[np.ndarray, "h2 w2 3"]:
    """Cut a crop out of an image. Parts outside of the image are grey.

    A reduction by 2 or more averages areas first, so that no pixel is skipped.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3), image pixels to crop pixels.
        shape: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8.
    """
    zoom = math.sqrt(abs(matrix[0, 0] * matrix[1, 1] - matrix[0, 1] * matrix[1, 0]))
    if zoom <= 0.5:
        image, matrix = _shrink(image, matrix, shape, int(1 / zoom))
    return cv2.warpAffine(image, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderValue=(GREY, GREY, GREY))


def _shrink(
    image: np.ndarray, matrix: np.ndarray, shape: tuple[int, ...], factor: int
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that a crop shows, reduced by an integer factor, and its map to the crop."""
    height, width = shape
    corners = apply(invert(matrix), np.array([[0, 0], [width, 0], [0, height], [width, height]], float))
    limit = np.array([image.shape[1], image.shape[0]])
    low = np.clip(np.floor(corners.min(0)) - factor, 0, limit - 1).astype(int)
    high = np.clip(np.ceil(corners.max(0)) + factor, low + 1, limit).astype(int)
    size = np.maximum((high - low) // factor, 1)  # integer factors are fast; the rest of the border is left out
    part = image[low[1] : low[1] + size[1] * factor, low[0] : low[0] + size[0] * factor]
    scale = np.array([part.shape[1], part.shape[0]]) / size
    small = cv2.resize(part, (int(size[0]), int(size[1])), interpolation=cv2.INTER_AREA)
    offset = matrix[:, :2] @ (scale / 2 - 0.5 + low) + matrix[:, 2]
    return small, np.concatenate([matrix[:, :2] * scale, offset[:, None]], 1)


MARGIN = 1.5  # square input of a single-person network relative to a box around joints, as in debnath2018split

GREY = 127  # padding value; about zero after the networks' x / 127.5 - 1


@dataclass(frozen=True)
class Letterbox:
    """Maps between an image and the network input that it is fitted into.

    Attributes:
        width: width of the original image.
        height: height of the original image.
        scale_x: input pixels per original pixel, horizontally; equal to ``scale_y`` up to rounding to whole pixels.
        scale_y: likewise, vertically.
    """

    width: int
    height: int
    scale_x: float
    scale_y: float

    def to_input(self, xy: Real[np.ndarray, "*n 2"]) -> Real[np.ndarray, "*n 2"]:
        """(..., 2) original pixels -> input pixels."""
        scale = np.array([self.scale_x, self.scale_y])
        return (xy + 0.5) * scale - 0.5

    def to_image(self, xy: Real[np.ndarray, "*n 2"]) -> Real[np.ndarray, "*n 2"]:
        """(..., 2) input pixels -> original pixels; the inverse of :meth:`to_input`."""
        scale = np.array([self.scale_x, self.scale_y])
        return (xy + 0.5) / scale - 0.5


def letterbox(
    image: UInt8[np.ndarray, "h w 3"], size: int, multiple: int
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Letterbox]:
    """Resize so that the longer side is ``size`` and pad with grey, right and below, to multiples of ``multiple``.

    Args:
        image: (H, W, 3) uint8.
        size: longer side of the resized image.
        multiple: both sides of the network's input are multiples of it.

    Returns:
        ((H', W', 3) uint8 input, the Letterbox that maps back).
    """
    height, width = image.shape[:2]
    scale = size / max(height, width)
    w, h = max(1, round(width * scale)), max(1, round(height * scale))
    # Area averaging when shrinking: plain bilinear would skip pixels of a large image.
    resized = cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    padded = np.full((-(-h // multiple) * multiple, -(-w // multiple) * multiple, 3), GREY, np.uint8)
    padded[:h, :w] = resized
    return padded, Letterbox(width, height, w / width, h / height)


def square(box: Sequence[float]) -> list[float]:
    """Square input of a single-person network: centred on a box, ``MARGIN`` times its longer side wide.

    Args:
        box: x, y, width, height in pixels.

    Returns:
        x, y, width, height of the square.
    """
    x, y, w, h = box
    side = MARGIN * max(w, h)
    return [x + w / 2 - side / 2, y + h / 2 - side / 2, side, side]


def cut(
    image: UInt8[np.ndarray, "h w 3"], box: Sequence[float]
) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Float64[np.ndarray, "xy=2"]]:
    """Cut a box out of an image; parts beyond the image are grey.

    Args:
        image: (H, W, 3) uint8.
        box: x, y, width, height in pixels; rounded to whole pixels.

    Returns:
        ((h, w, 3) uint8 crop, (2,) x and y of its corner in the image, to add to joints found in the crop).
    """
    x, y = round(box[0]), round(box[1])
    w, h = max(1, round(box[2])), max(1, round(box[3]))
    height, width = image.shape[:2]
    crop = np.full((h, w, 3), GREY, np.uint8)
    x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x0 < x1 and y0 < y1:
        crop[y0 - y : y1 - y, x0 - x : x1 - x] = image[y0:y1, x0:x1]
    return crop, np.array([x, y], float)


def to_cells(xy: Real[np.ndarray, "*n 2"], stride: int) -> Real[np.ndarray, "*n 2"]:
    """(..., 2) input pixels -> map cells."""
    return (xy - (stride / 2 - 0.5)) / stride


def from_cells(cells: Real[np.ndarray, "*n 2"], stride: int) -> Real[np.ndarray, "*n 2"]:
    """(..., 2) map cells -> input pixels; the inverse of :func:`to_cells`."""
    return cells * stride + (stride / 2 - 0.5)
