"""Distances between two runtimes' results of one network, in pixels of its input; and network inputs from images."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ImageError, MissingFileError
from ..geometry import crop_matrix, letterbox, warp
from ..heads.base import DecodeConfig
from ..heads.boxes import BoxHead, decode_boxes
from ..heads.outputs import Boxes, Output
from ..media.image import read_image
from ..media.inputs import IMAGES
from ..resources import SAMPLE
from ..runtime.base import ModelInfo, Runtime
from .detector import OVERLAP, SCORE, PersonDetector

PEOPLE = 3  # largest number of crops per image
FAR = 0.125  # of the input's longer side: people farther apart than this are not the same
SURE = 0.2  # lowest score of a reference joint that is compared


@dataclass(frozen=True)
class Parity:
    """Distances of points, in pixels of the network's input.

    Attributes:
        median: median of all points.
        far: the 95th percentile.
        largest: largest of all points.
        points: number of compared points: joints, or corners of boxes.
        missed: share of the reference's people that the other does not find.
    """

    median: float
    far: float
    largest: float
    points: int
    missed: float

    def __str__(self) -> str:
        return (
            f"median {self.median:.3f}, 95 % below {self.far:.2f}, largest {self.largest:.2f} pixels over {self.points}"
            f" points, {self.missed:.1%} of people missed"
        )


def sample_images(folder: Path | None = None) -> list[Path]:
    """The embedded images, and those of a folder.

    Raises:
        MissingFileError: no such folder, or no image in it.
    """
    images = sorted(SAMPLE.parent.glob("*.jpg"))
    return images + images_in(folder) if folder else images


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder, by name.

    Raises:
        MissingFileError: no such folder, or no image in it.
    """
    found = sorted(path for path in folder.glob("*") if path.suffix.lower() in IMAGES) if folder.is_dir() else []
    if not found:
        raise MissingFileError(f"{folder}: not a folder with images; pass a folder that contains images")
    return found


def network_inputs(info: ModelInfo, files: Iterable[Path], most: int = 0) -> list[np.ndarray]:
    """Network inputs from images: crops around people, as the embedded detector finds them, or full images.

    Args:
        info: description of the network.
        files: images; those that cannot be read are left out.
        most: maximum number of inputs; 0 uses all.

    Returns:
        inputs, each (H, W, 3) uint8. If the network also accepts smaller crops, every third input is one.
    """
    detector, inputs = PersonDetector(runtime="onnx") if info.crop else None, list[np.ndarray]()
    for file in files:
        try:
            image = read_image(file)
        except ImageError:
            continue
        if detector is None:
            inputs.append(letterbox(image, info.size, info.multiple)[0])
        else:
            for box in detector(image).xywh[:PEOPLE].tolist():
                shape = info.small_crop if info.small_crop and len(inputs) % 3 == 2 else info.crop
                inputs.append(warp(image, crop_matrix(box, shape), shape))
        if most and len(inputs) >= most:
            return inputs[:most]
    return inputs


def parity(reference: Runtime, other: Runtime, inputs: Sequence[np.ndarray]) -> Parity:
    """Compare what two runtimes find, person by person.

    Args:
        reference: its joints or boxes with high scores are searched for in the results of the other.
        other: compared with it.
        inputs: each (H, W, 3) uint8.
    """
    distances, missed = list[np.ndarray](), list[bool]()
    for image in inputs:
        found = _points(reference.info, reference(image[None])[0], SURE)
        again = _points(other.info, other(image[None])[0], SURE / 4)
        for points in found[np.isfinite(found[..., 0]).sum(1) > 0]:
            if not len(again):
                missed.append(True)
                continue
            apart = np.hypot(*np.moveaxis(again - points, -1, 0))  # NaN where one of them lacks the joint
            both = np.isfinite(apart)
            near = np.array(
                [np.median(one[there]) if there.any() else np.inf for one, there in zip(apart, both, strict=True)]
            )
            best = apart[int(near.argmin())]
            missed.append(bool(near.min() > FAR * max(image.shape)))
            if not missed[-1]:
                distances.append(best[np.isfinite(best)])
    every = np.concatenate(distances) if distances else np.zeros(0)
    if not every.size:
        return Parity(np.nan, np.nan, np.nan, 0, float(np.mean(missed)) if missed else 0.0)
    share = float(np.mean(missed))
    return Parity(float(np.median(every)), float(np.quantile(every, 0.95)), float(every.max()), every.size, share)


def _points(info: ModelInfo, output: Output, sure: float) -> np.ndarray:
    """(N, K, 2) joints of people, or corners of boxes; NaN where not found."""
    if isinstance(info.head, BoxHead):
        assert isinstance(output, Boxes)
        return decode_boxes(output.xyxy, output.score, SCORE * sure / SURE, OVERLAP).xyxy.reshape(-1, 2, 2)
    head: Any = info.joints_head
    xy, score, _ = head.decode(output, DecodeConfig(peak=sure, joints=1))
    return np.where((score >= sure)[..., None], xy, np.nan)
