"""Person crops: from a box in an image to a network's input of fixed size, and back.

Coordinates: the centre of the top left pixel is (0, 0), as everywhere in this package.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from .image import GREY

CROP_MARGIN = 1.25  # side of a crop over that of the person's box, as top-down networks are commonly trained with


def crop_matrix(box: Sequence[float] | np.ndarray, shape: tuple[int, int], margin: float = CROP_MARGIN) -> np.ndarray:
    """Affine map from image pixels to the pixels of a crop that keeps the aspect and shows the whole box.

    Args:
        box: x, y, width, height in image pixels.
        shape: (height, width) of the crop.
        margin: the box, extended to the crop's aspect, is enlarged by this factor.

    Returns:
        (2, 3) float64. Centre and zoom alone: ``x' = zoom * (x - centre) + (width - 1) / 2``.
    """
    x, y, w, h = (float(value) for value in box)
    height, width = shape
    zoom = min(width / max(w, 1e-3), height / max(h, 1e-3)) / margin
    centre_x, centre_y = x + w / 2, y + h / 2
    return np.array(
        [[zoom, 0, (width - 1) / 2 - zoom * centre_x], [0, zoom, (height - 1) / 2 - zoom * centre_y]], float
    )


def invert(matrix: np.ndarray) -> np.ndarray:
    """Inverse of an affine map (..., 2, 3)."""
    linear = np.linalg.inv(matrix[..., :2])
    return np.concatenate([linear, -linear @ matrix[..., 2:]], -1)


def apply(matrix: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Map points (..., 2) by an affine map (2, 3)."""
    return xy @ matrix[:, :2].T + matrix[:, 2]


def warp(image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Cut a crop out of an image; what lies outside of the image is grey.

    A strong reduction averages areas first, so that no pixel is skipped.

    Args:
        image: (H, W, 3) uint8.
        matrix: (2, 3), image pixels to crop pixels.
        shape: (height, width) of the crop.

    Returns:
        (height, width, 3) uint8.
    """
    zoom = math.sqrt(abs(np.linalg.det(matrix[:, :2])))
    if zoom < 0.6:
        image, matrix = _shrink(image, matrix, shape, zoom)
    return cv2.warpAffine(
        image, matrix, (shape[1], shape[0]), flags=cv2.INTER_LINEAR, borderValue=(GREY, GREY, GREY)
    )


def _shrink(
    image: np.ndarray, matrix: np.ndarray, shape: tuple[int, int], zoom: float
) -> tuple[np.ndarray, np.ndarray]:
    """The part of the image that a crop shows, reduced to the crop's scale, and the map from there."""
    height, width = shape
    corners = apply(invert(matrix), np.array([[0, 0], [width, 0], [0, height], [width, height]], float))
    low = np.maximum(np.floor(corners.min(0)) - 2, 0).astype(int)
    high = np.minimum(np.ceil(corners.max(0)) + 3, (image.shape[1], image.shape[0])).astype(int)
    if (high - low < 1).any():
        return image[:1, :1], matrix  # the crop lies outside of the image
    part = image[low[1] : high[1], low[0] : high[0]]
    size = [max(1, round(side * zoom)) for side in (part.shape[1], part.shape[0])]
    small = cv2.resize(part, size, interpolation=cv2.INTER_AREA)
    scale = np.array([part.shape[1] / size[0], part.shape[0] / size[1]])
    back = np.concatenate([np.diag(scale), (scale / 2 - 0.5 + low)[:, None]], 1)
    return small, np.concatenate([matrix[:, :2] @ back[:, :2], apply(matrix, back[:, 2])[:, None]], 1)
