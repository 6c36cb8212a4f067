"""Incremental inference: re-run changed regions of a video, reuse the previous maps elsewhere.

choi2018binarized leaves it as future work: "when the pose estimation is done with a video, it seems redundant to
compute from scratch for every new image".
"""

from __future__ import annotations

from typing import Any, Protocol

import cv2
import numpy as np

from ..errors import ConfigError
from ..heads.base import Head
from ..heads.heatmaps import HeatmapHead
from ..heads.outputs import Maps
from ..poses import Poses
from ..runtime.base import Runtime

# Pixels of the input: the assumed reach of a change, and the margin around it. Receptive fields are larger, but the
# effect of a change farther away is smaller than that of noise everywhere (benchmarks/incremental.py).
REPLACED, AROUND = 32, 64


class MapPredictor(Protocol):
    """The part of :class:`~lithepose.inference.predictor.Predictor` that :class:`Incremental` uses."""

    runtime: Runtime
    flip: bool
    scales: tuple[float, ...]

    @property
    def head(self) -> Head[Any]:
        """Description of the network's outputs."""
        ...

    def letterbox(self, image: np.ndarray) -> tuple[np.ndarray, Any]:
        """Image -> network input and the map back to the image."""
        ...

    def decode(self, output: Any, back: Any) -> Poses:
        """Output of the network -> people."""
        ...

    def estimate(self, images: list[np.ndarray]) -> list[Poses]:
        """People of images."""
        ...


class Incremental:
    """Finds people in the frames of a video, one after another.

    The network's input is compared with its earlier input, cell by cell (the mean over 8x8 pixels, in which noise of
    single pixels averages out). The network runs on the rectangle around all changed cells, with a margin for context,
    and that part of the maps is replaced. It runs on the full image every ``every`` frames, at a cut, and when most of
    the image has changed.

    Args:
        predictor: predictor of a network with maps, without flip or scales.
        every: frames after which the network runs on the full image.
        change: difference of a cell's mean colour, of 255, that counts as a change.
        most: changed share of the image from which the network runs on the full image.

    Attributes:
        share: share of the input that the network ran on for the last frame.

    Raises:
        ConfigError: the predictor averages views, or its network has no maps of full images.
    """

    def __init__(self, predictor: MapPredictor, every: int = 15, change: float = 5.0, most: float = 0.7) -> None:
        if predictor.flip or predictor.scales != (1.0,):
            raise ConfigError("incremental inference supports only one view; omit flip and scales")
        if not isinstance(predictor.head, HeatmapHead):
            raise ConfigError(
                f"{predictor.runtime.info.name} has no maps of the full image, which incremental inference needs"
            )
        self.stride = predictor.head.stride
        self.predictor, self.every, self.change, self.most = predictor, every, change, most
        self.share = 0.0
        self._seen: np.ndarray | None = (
            None  # (h, w, 3) float32 mean colours of the cells when the network last ran on them
        )
        self._maps: Maps | None = None
        self._since = 0

    def __call__(self, image: np.ndarray) -> Poses:
        """Find people in the next frame.

        Args:
            image: (H, W, 3) uint8 RGB.

        Returns:
            People of the full image.
        """
        pixels, back = self.predictor.letterbox(image)
        stride = self.stride
        cells = cv2.resize(
            pixels, (pixels.shape[1] // stride, pixels.shape[0] // stride), interpolation=cv2.INTER_AREA
        ).astype(np.float32)
        box = self._changed(cells)
        if box is None:
            self.share = 0.0
        else:
            self._run(pixels, cells, box)
        assert self._maps is not None
        self._since += 1
        return self.predictor.decode(self._maps, back)

    def _changed(self, cells: np.ndarray) -> tuple[slice, slice] | None:
        """Rows and columns of cells to replace, possibly all; None if nothing has changed."""
        height, width = cells.shape[:2]
        if self._maps is None or self._seen is None or self._seen.shape != cells.shape or self._since >= self.every:
            self._maps = None
            return slice(0, height), slice(0, width)
        rows, columns = np.nonzero(np.abs(cells - self._seen).max(2) > self.change)
        if not len(rows):
            return None
        reach = REPLACED // self.stride
        return (
            slice(max(rows.min() - reach, 0), min(rows.max() + 1 + reach, height)),
            slice(max(columns.min() - reach, 0), min(columns.max() + 1 + reach, width)),
        )

    def _run(self, pixels: np.ndarray, cells: np.ndarray, box: tuple[slice, slice]) -> None:
        stride, multiple = self.stride, self.predictor.runtime.info.multiple
        around = []
        for part, size in zip(box, pixels.shape[:2], strict=True):
            low, high = part.start * stride - AROUND, part.stop * stride + AROUND
            around.append(slice(max(low // multiple, 0) * multiple, min(-(-high // multiple) * multiple, size)))
        rows, columns = around
        self.share = (rows.stop - rows.start) * (columns.stop - columns.start) / (pixels.shape[0] * pixels.shape[1])
        if self._maps is None or self._seen is None or self.share >= self.most:
            self.share, self._since = 1.0, 0
            (maps,) = self.predictor.runtime(pixels[None])
            assert isinstance(maps, Maps)
            self._maps, self._seen = maps, cells
            return
        (part,) = self.predictor.runtime(np.ascontiguousarray(pixels[rows, columns])[None])
        assert isinstance(part, Maps)
        top, left = rows.start // stride, columns.start // stride
        inside = slice(box[0].start - top, box[0].stop - top), slice(box[1].start - left, box[1].stop - left)
        heatmaps, pafs = self._maps.heatmaps.copy(), self._maps.pafs.copy()
        heatmaps[:, *box], pafs[:, *box] = part.heatmaps[:, *inside], part.pafs[:, *inside]
        self._seen = self._seen.copy()
        self._seen[box] = cells[box]
        self._maps = Maps.from_arrays(heatmaps, pafs, self._maps.peak_score.shape[1])
