"""Predictor: one network on whole images, or on the crop around one person."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..arrays import UInt8
from ..errors import ConfigError
from ..geometry import CROP_MARGIN, Letterbox, PersonCrop, crop_matrix, cut, letterbox, square, warp
from ..heads.base import DecodeConfig, Head
from ..heads.outputs import Output
from ..heads.pose_prior import PosePrior
from ..poses import Poses
from ..runtime.base import Runtime
from .estimator import BATCH, Estimator, Pipeline
from .incremental import Incremental
from .models import open_runtime

DEFAULT = "lithe"
CALIBRATED_PEAK = 0.35  # lowest score of a joint in a person crop, where a score is the share of joints that are right


class Predictor(Estimator):
    """Finds people in images with one network.

    A single-person network expects one person who fills the image; :class:`lithepose.inference.top_down.TopDown` runs
    it on all people.

    Args:
        model: name of an embedded model, path of an ``.onnx`` file from ``lithepose export`` or of a ``.safetensors``
            file from ``lithepose export --to bits``, or an open runtime.
        size: longer side of the image in the network's input, in pixels, padded to the multiple that the network needs;
            by default the size that the model's scores were measured at. A larger size finds smaller people and takes
            longer.
        threads: threads of the network; 0 uses one per core.
        config: thresholds of the decoder; by default a joint must score 0.35 in a person crop, 0.18 in a whole image.
        flip: average with the mirrored image (slower, a little better).
        scales: factors of the size to average over.
        runtime: auto, onnx, openvino or torch; see :func:`lithepose.inference.models.open_runtime`, also for device and
            precision.
        device: cpu, cuda, tensorrt, coreml or directml; no other device is used instead.
        precision: fp32, bf16 or int8; by default the file's own.

    Raises:
        ConfigError: unknown model, a file that is not a model, a size out of range, or guessed joints without a pose
            prior.
        MissingFileError: no such file.
    """

    def __init__(
        self,
        model: str | Path | Runtime = DEFAULT,
        *,
        size: int = 0,
        threads: int = 0,
        config: DecodeConfig | None = None,
        flip: bool = False,
        scales: tuple[float, ...] = (1.0,),
        runtime: str = "auto",
        device: str = "cpu",
        precision: str = "",
    ) -> None:
        by_name = isinstance(model, (str, Path))
        self.runtime = open_runtime(model, threads, runtime, device, precision) if by_name else model
        info = self.runtime.info
        self._head = info.joints_head
        self.size, scales = size or self.runtime.info.size, tuple(scales)
        if not scales or not all(32 <= s * self.size <= 4096 for s in scales):
            sizes = "" if scales == (1.0,) else f", scales {scales}"
            raise ConfigError(
                f"size {self.size}{sizes}: the longer side of the network's input must be 32 to 4096 pixels"
            )
        if not info.batched and (flip or scales != (1.0,)):
            raise ConfigError(
                f"{info.name} finds different boxes in every view, which cannot be averaged; omit flip and scales"
            )
        if (info.fixed_size or info.crop) and (self.size, scales) != (info.size, (1.0,)):
            takes = "x".join(map(str, info.crop)) or info.size
            raise ConfigError(f"size {self.size}, scales {scales}: {info.name} supports only size {takes}")
        default = DecodeConfig(peak=CALIBRATED_PEAK) if info.crop else DecodeConfig()
        self.config, self.flip, self.scales = config or default, flip, scales
        self._check_config()
        if flip:
            self.head.check_flip()

    def __repr__(self) -> str:
        return f"<Predictor of {self.runtime.info.name}, longer side {self.size}>"

    @property
    def head(self) -> Head[Any]:
        """Description of the network's maps."""
        return self._head

    @property
    def single_person(self) -> bool:
        """Whether the network finds the one person of an image."""
        return self.head.single_person

    @property
    def lowest(self) -> float:
        """Score below which a joint counts as not found."""
        return self.config.peak

    @property
    def guessed(self) -> float:
        """Score below which a joint is a guess."""
        return self.config.guessed

    def pipeline(self) -> Pipeline:
        """A call with one image, split into parts."""
        if self.scales != (1.0,):
            return Pipeline.whole(lambda frame: self(frame.image))
        return Pipeline(
            lambda frame: self.letterbox(frame.image),
            lambda fitted: (self.outputs(fitted[0][None])[0], fitted[1]),
            lambda result: self.decode(*result),
        )

    def incremental_pipeline(self) -> Pipeline:
        """Like :meth:`pipeline`, but the network runs only where a video has changed."""
        Incremental(self)  # raises if this model has no maps to keep
        return Pipeline.following(lambda: Incremental(self), lambda frame: self.estimate([frame.image])[0])

    def estimate(self, images: list[np.ndarray]) -> list[Poses]:
        """People of (H, W, 3) uint8 RGB images; images with the same input size are run together."""
        if self.scales != (1.0,):
            multiple = self.runtime.info.multiple
            return [self._averaged(lambda size, image=image: letterbox(image, size, multiple)) for image in images]
        return self.run([self.letterbox(image) for image in images])

    def run(self, inputs: Sequence[tuple[np.ndarray, Letterbox | PersonCrop]]) -> list[Poses]:
        """Run network and decoder on prepared inputs; inputs of one shape are run together.

        Args:
            inputs: inputs from :meth:`letterbox` or :meth:`person_crop`.

        Returns:
            people of each, in pixels of its image.
        """
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, (pixels, _) in enumerate(inputs):
            by_shape.setdefault(pixels.shape, []).append(i)
        poses: dict[int, Poses] = {}
        for members in by_shape.values():
            for first in range(0, len(members), BATCH):
                batch = members[first : first + BATCH]
                outputs = self.outputs(np.stack([inputs[i][0] for i in batch]))
                for i, output in zip(batch, outputs, strict=True):
                    poses[i] = self.decode(output, inputs[i][1])
        return [poses[i] for i in range(len(inputs))]

    def outputs(self, pixels: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """Network outputs for a batch (N, H, W, 3); with ``flip``, averaged with those of the mirrored batch."""
        outputs = self.runtime(pixels)
        if not self.flip:
            return outputs
        mirrored = self.runtime(np.ascontiguousarray(pixels[:, :, ::-1]))
        here, width = Letterbox(pixels.shape[2], pixels.shape[1], 1.0, 1.0), pixels.shape[2]
        return [
            self.head.average([(one, here), (self.head.unmirror(other, width), here)])
            for one, other in zip(outputs, mirrored, strict=True)
        ]

    def _averaged(self, fit: Callable[[int], tuple[np.ndarray, Letterbox | PersonCrop]]) -> Poses:
        """Average the outputs for inputs of all scales, each made by ``fit`` from its longer side."""
        results = []
        for scale in sorted(self.scales, reverse=True):  # the others are brought to the finest grid
            pixels, back = fit(round(self.size * scale))
            (maps,) = self.outputs(pixels[None])
            results.append((maps, back))
        return self.decode(self.head.average(results), results[0][1])

    def within(self, image: np.ndarray, box: Sequence[float]) -> Poses:
        """Run a single-person network on a part of an image.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: x, y, width, height in pixels, with parts beyond the image in grey. Rounded to whole pixels, except for
                networks on person crops.

        Returns:
            Poses of at most one person, in pixels of the whole image.
        """
        if self.scales != (1.0,):
            return self._averaged(lambda size: self._part(image, box, size))[:1]
        return self.run([self._part(image, box)])[0][:1]

    def around(self, image: np.ndarray, boxes: Sequence[Sequence[float]], small: bool = False) -> list[Poses]:
        """Run a single-person network on the surroundings of boxes; arguments as for :meth:`person_crop`."""
        if self.scales != (1.0,):
            return [self._averaged(lambda size, box=box: self._part(image, square(box), size)) for box in boxes]
        return self.run([self.person_crop(image, box, small) for box in boxes])

    def person_crop(
        self, image: UInt8[np.ndarray, "h w 3"], box: Sequence[float], small: bool = False
    ) -> tuple[UInt8[np.ndarray, "h2 w2 3"], PersonCrop]:
        """The input of a single-person network, around a box.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: x, y, width, height of the person, in pixels.
            small: use the smaller shape, if the network has one.

        Returns:
            (H', W', 3) uint8: the box and its surroundings, in the network's input shape; and the map back to the
            image.
        """
        info = self.runtime.info
        shape = (small and info.small_crop) or info.crop
        return self._crop(image, box, CROP_MARGIN, shape) if shape else self._part(image, square(box))

    def _crop(
        self, image: np.ndarray, box: Sequence[float], margin: float, shape: tuple[int, ...]
    ) -> tuple[np.ndarray, PersonCrop]:
        matrix = crop_matrix(box, shape, margin)
        return warp(image, matrix, shape), PersonCrop(image.shape[1], image.shape[0], matrix)

    def _part(self, image: np.ndarray, box: Sequence[float], size: int = 0) -> tuple[np.ndarray, PersonCrop]:
        """A rounded box of the image, letterboxed; ``size`` is the longer side, by default the predictor's."""
        if self.runtime.info.crop:
            return self._crop(image, box, 1.0, self.runtime.info.crop)
        part, corner = cut(image, box)
        pixels, back = letterbox(part, size or self.size, self.runtime.info.multiple)
        scale = np.array([back.scale_x, back.scale_y])
        matrix = np.concatenate([np.diag(scale), ((0.5 - corner) * scale - 0.5)[:, None]], 1)
        return pixels, PersonCrop(image.shape[1], image.shape[0], matrix)

    def with_config(self, **changes: Any) -> Predictor:
        """The same model with other thresholds, named as in :class:`~lithepose.heads.base.DecodeConfig`."""
        other = copy.copy(self)
        other.config = replace(self.config, **changes)
        other._check_config()
        return other

    def _check_config(self) -> None:
        if self.config.complete:
            PosePrior.of(self.head.output)  # raises if there is none

    def letterbox(
        self, image: UInt8[np.ndarray, "h w 3"]
    ) -> tuple[UInt8[np.ndarray, "h2 w2 3"], Letterbox | PersonCrop]:
        """Part 1: (H, W, 3) uint8 image -> network input (H', W', 3) uint8 and the map back to the image."""
        if self.runtime.info.crop:
            box = -0.5, -0.5, image.shape[1], image.shape[0]
            return self._crop(image, box, 1.0, self.runtime.info.crop)
        return letterbox(image, self.size, self.runtime.info.multiple)

    def decode(self, output: Output, back: Letterbox | PersonCrop) -> Poses:
        """Part 3: network output -> people, in pixels of the image."""
        xy, score, person_score = self.head.decode(output, self.config)
        xy, limit = back.to_image(xy), np.array([back.width - 1, back.height - 1])
        if self.config.complete:
            # A guess may lie anywhere; one near the edge may come out a fraction of a cell beyond it, in the padding.
            cell = self.head.cell / np.array([back.scale_x, back.scale_y])
            outside = ((xy < -cell) | (xy > limit + cell)).any(2) & (score < self.config.peak)
            xy, score = np.where(outside[..., None], np.nan, xy), np.where(outside, 0, score)
        xy = np.minimum(np.maximum(xy, 0), limit).astype(np.float32)
        return Poses(xy, score, person_score, self.head.output, (back.width, back.height))
