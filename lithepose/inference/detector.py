"""PersonDetector: boxes of the people in an image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..arrays import UInt8
from ..errors import ConfigError
from ..geometry import Letterbox, letterbox
from ..heads.boxes import BoxHead, decode_boxes
from ..heads.outputs import Boxes
from ..runtime.base import Runtime
from .models import open_runtime

DETECTOR = "person_detector"
SCORE, OVERLAP = 0.35, 0.6
LEAST = 1.0  # pixels of the image; smaller boxes lie in the padding


class PersonDetector:
    """Finds the boxes of people.

    Args:
        model: name of an embedded detector, path of its ``.onnx`` file, or an open runtime.
        size: longer side of the image in the network's input, in pixels; 0 is the model's own.
        threads: threads of the network; 0 uses one per core.
        score: lowest score of a box, in [0, 1].
        overlap: intersection over union above which the lower of two boxes is a duplicate.
        runtime: auto, onnx, openvino or torch; see :func:`lithepose.inference.models.open_runtime`, also for device and
            precision.
        device: cpu, cuda, tensorrt, coreml or directml; no other device is used instead.
        precision: fp32, bf16 or int8; by default the file's own.

    Raises:
        ConfigError: the model is not a person detector, or the size is out of range.
        MissingFileError: no such file.
    """

    def __init__(
        self,
        model: str | Path | Runtime = DETECTOR,
        *,
        size: int = 0,
        threads: int = 0,
        score: float = SCORE,
        overlap: float = OVERLAP,
        runtime: str = "auto",
        device: str = "cpu",
        precision: str = "",
    ) -> None:
        by_name = isinstance(model, (str, Path))
        self.runtime = open_runtime(model, threads, runtime, device, precision) if by_name else model
        info = self.runtime.info
        if not isinstance(info.head, BoxHead):
            raise ConfigError(f"{info.name}: not a person detector; it cannot locate people")
        self.size = size or info.size
        if not 32 <= self.size <= 4096:
            raise ConfigError(f"size {self.size}: the longer side of the detector's input must be 32 to 4096 pixels")
        self.score, self.overlap = score, overlap

    def __repr__(self) -> str:
        return f"<PersonDetector {self.runtime.info.name}, longer side {self.size}>"

    def __call__(self, image: UInt8[np.ndarray, "h w 3"]) -> Boxes:
        """Boxes of the people in an image.

        Args:
            image: (H, W, 3) uint8 RGB.
        """
        pixels, back = self.prepare(image)
        (found,) = self.runtime(pixels[None])
        return self.finish(found, back)

    def prepare(self, image: UInt8[np.ndarray, "h w 3"]) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Letterbox]:
        """The network's input (H', W', 3) uint8, and the map back to the image."""
        return letterbox(image, self.size, self.runtime.info.multiple)

    def finish(self, found: object, back: Letterbox) -> Boxes:
        """Network output -> boxes in pixels of the image, clipped to its edges."""
        assert isinstance(found, Boxes)
        boxes = decode_boxes(found.xyxy, found.score, self.score, self.overlap)
        # Edges of pixels, not centres: the first pixel of an image begins at 0.
        xyxy = (back.to_image(boxes.xyxy.reshape(-1, 2, 2) - 0.5) + 0.5).reshape(-1, 4)
        limit = np.array([back.width, back.height] * 2, np.float32)
        xyxy = np.clip(xyxy, 0, limit).astype(np.float32)
        inside = (xyxy[:, 2:] - xyxy[:, :2] >= LEAST).all(1)
        return Boxes(xyxy[inside], boxes.score[inside])
