"""Predictor: pictures in, poses out; the only place that joins fit, network and decode."""

from __future__ import annotations

import copy
import tomllib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from .augmented import average, unmirror
from .decode import DecodeConfig, Found, Maps, decode
from .frames import Failed, Frame, Input, expand, frames
from .image import Fit, as_rgb, cut, fit, read_image
from .pipeline import ahead
from .poses import Poses
from .prior import PosePrior
from .runtime.onnx import ModelInfo, OnnxRuntime
from .skeleton import Head
from .track import Following
from .warm import WarmStart

WEIGHTS = Path(__file__).parent / "weights"
DEFAULT = "lithe"
BATCH = 16  # pictures that one call of the network gets; more are no faster and fill the memory


class _Convertible(Protocol):
    """A PIL image, known by its method."""

    def convert(self, mode: str) -> Any: ...


Picture = str | Path | np.ndarray | _Convertible


@dataclass(frozen=True)
class FramePoses:
    """One frame of :meth:`Predictor.stream` and the people in it."""

    frame: Frame
    poses: Poses

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.frame.image


@dataclass(frozen=True)
class Steps:
    """A look at a frame in three parts, for a thread each.

    Attributes:
        prepare: frame -> what the network takes.
        run: that -> what the network says.
        finish: that -> people.
    """

    prepare: Callable[[Frame], Any]
    run: Callable[[Any], Any]
    finish: Callable[[Any], Poses]

    @classmethod
    def whole(cls, look: Callable[[Frame], Poses]) -> Steps:
        """All in the second part."""
        return cls(lambda frame: frame, look, lambda poses: poses)


def manifest() -> dict[str, dict[str, Any]]:
    """The embedded models by name, as written in ``weights/manifest.toml``."""
    return tomllib.loads((WEIGHTS / "manifest.toml").read_text(encoding="utf-8"))


class Runtime(Protocol):
    """What runs a network."""

    info: ModelInfo

    def __call__(self, images: np.ndarray) -> list[Maps | Found]:
        """(N, H, W, 3) uint8 RGB -> what the network says about each."""
        ...


class Predictor:
    """Finds people in pictures.

    Args:
        model: name of an embedded model, path of an ``.onnx`` file that ``lithepose export`` wrote or of a
            ``.safetensors`` file that ``lithepose pack`` wrote, or what runs one.
        size: longer side of the picture in the network's input, in pixels, padded to what the network divides by; by
            default the one that the model's scores were measured at. Larger finds smaller people and takes longer.
        threads: of the network; 0 takes one a core.
        config: thresholds of the decoder.
        flip: look at the mirrored picture too and average (slower, a little better).
        scales: of the size, to look at and average.

    Raises:
        ValueError: no such model, a file that is none, a size that is out of range, or joints are to be guessed that
            there is no prior for.
        FileNotFoundError: no such file.
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
    ) -> None:
        if not isinstance(model, (str, Path)):
            self.runtime = model
        else:
            if threads < 0:
                raise ValueError(f"{threads} threads; give 1 or more, or 0 for one a core")
            self.runtime = _open(_weights(model), threads)
        self.size = size or self.runtime.info.size
        if not scales or not all(32 <= s * self.size <= 4096 for s in scales):
            sizes = "" if scales == (1.0,) else f", scales {scales}"
            raise ValueError(
                f"size {self.size}{sizes}: the longer side of the network's input must be 32 to 4096 pixels"
            )
        info = self.runtime.info
        if info.single and (flip or len(scales) > 1):
            raise ValueError(
                f"{info.name} finds boxes, and whose box is whose in several looks is not said: no flip or scales"
            )
        if info.fixed and (self.size, scales) != (info.size, (1.0,)):
            raise ValueError(f"size {self.size}, scales {scales}: {info.name} takes {info.size} alone")
        self.config, self.flip, self.scales = config or DecodeConfig(), flip, scales
        if self.config.complete:
            PosePrior.of(self.head.output)  # say at once if there is none
        if flip:
            _ = self.head.limb_flip_order  # likewise

    def __repr__(self) -> str:
        return f"<Predictor of {self.runtime.info.name}, longer side {self.size}>"

    @property
    def head(self) -> Head:
        """What the network's maps mean."""
        return self.runtime.info.head

    @property
    def one_person(self) -> bool:
        """Whether the network sees the one person of a picture, not everybody."""
        return not self.head.limbs and not self.runtime.info.single

    @overload
    def __call__(self, picture: Picture) -> Poses: ...
    @overload
    def __call__(self, picture: list[Picture]) -> list[Poses]: ...
    def __call__(self, picture: Picture | list[Picture]) -> Poses | list[Poses]:
        """Find people.

        Args:
            picture: path, (H, W, 3) uint8 RGB array (or grey, RGBA, uint16, floats in 0..1), PIL image, or a list of
                them; those of a list that fit into the same input size are run together, up to 16 at once.

        Returns:
            Poses, or a list of them for a list.

        Raises:
            UnreadableImage: what is given is no picture.
        """
        if isinstance(picture, list):
            return self._batch([open_picture(p) for p in picture])
        return self._batch([open_picture(picture)])[0]

    def stream(
        self,
        source: str | Path | int | Iterable[str | Path],
        *,
        track: bool = False,
        smooth: bool = False,
        warm_start: bool = False,
    ) -> Iterator[FramePoses]:
        """Frame by frame through pictures, a folder, a video, a camera number or a network stream.

        They are read in a thread while the network works. Of a camera or stream the newest frame comes next, and those
        that it was too slow for are dropped.

        Args:
            source: one or several of them.
            track: give people of a video ids that stay with them (``poses.id``).
            smooth: steady their joints too, with a lag of about a frame.
            warm_start: run the network only where a video has changed, see :class:`lithepose.warm.WarmStart`.

        Raises:
            UnreadableImage: a picture cannot be read; :func:`lithepose.frames.frames` goes on instead.
        """
        sources = [source] if isinstance(source, (str, Path, int)) else list(source)
        following = Following(smooth, self.config.guessed) if track or smooth else None
        steps = Steps.whole(WarmStart(self).look) if warm_start else self.steps()
        for frame, prepared in ahead(prepared_frames(expand([str(s) for s in sources]), steps), stale=makes_way):
            if isinstance(frame, Failed):
                raise frame.error
            poses = steps.finish(steps.run(prepared))
            yield FramePoses(frame, following(frame, poses) if following else poses)

    def steps(self) -> Steps:
        """What a call with one picture does, taken apart."""
        if self.flip or len(self.scales) > 1:
            return Steps.whole(lambda frame: self(frame.image))
        return Steps(
            lambda frame: self.fit(frame.image),
            lambda fitted: (self.runtime(fitted[0][None])[0], fitted[1]),
            lambda result: self.decode(*result),
        )

    def _batch(self, images: list[np.ndarray]) -> list[Poses]:
        if self.flip or len(self.scales) > 1:
            return [self._views(image) for image in images]
        fitted = [self.fit(image) for image in images]
        by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, (pixels, _) in enumerate(fitted):
            by_shape.setdefault(pixels.shape, []).append(i)
        poses: dict[int, Poses] = {}
        for members in by_shape.values():
            for first in range(0, len(members), BATCH):
                batch = members[first : first + BATCH]
                for i, maps in zip(batch, self.runtime(np.stack([fitted[i][0] for i in batch])), strict=True):
                    poses[i] = self.decode(maps, fitted[i][1])
        return [poses[i] for i in range(len(images))]

    def _views(self, image: np.ndarray) -> Poses:
        """One picture at every scale, and mirrored."""
        results = []
        for scale in sorted(self.scales, reverse=True):  # the others are brought to the finest grid
            pixels, back = fit(image, round(self.size * scale), self.runtime.info.multiple)
            (maps,) = self.runtime(pixels[None])
            results.append((maps, back))
            if self.flip:
                (maps,) = self.runtime(np.ascontiguousarray(pixels[None, :, ::-1]))
                results.append((unmirror(maps, self.head, pixels.shape[1]), back))
        return self.decode(average(results, self.head), results[0][1])

    def within(self, image: np.ndarray, box: Sequence[float]) -> Poses:
        """What a network of one person finds in a part of a picture.

        Args:
            image: (H, W, 3) uint8 RGB.
            box: x, y, width, height in pixels; rounded to whole ones, and grey where it reaches beyond the picture.

        Returns:
            Poses of at most one person, in pixels of the whole picture.
        """
        crop, corner = cut(image, box)
        poses = self(crop)[:1]
        xy = poses.xy + corner.astype(np.float32)
        return Poses(xy, poses.score, poses.person_score, poses.skeleton, (image.shape[1], image.shape[0]))

    def with_config(self, **changes: Any) -> Predictor:
        """The same model with other thresholds, by name of :class:`~lithepose.decode.DecodeConfig`."""
        other = copy.copy(self)
        other.config = replace(self.config, **changes)
        return other

    def fit(self, image: np.ndarray) -> tuple[np.ndarray, Fit]:
        """Step 1: (H, W, 3) uint8 picture -> network input (H', W', 3) uint8 and the way back."""
        return fit(image, self.size, self.runtime.info.multiple)

    def decode(self, maps: Maps | Found, back: Fit) -> Poses:
        """Step 3: maps -> people, in pixels of the picture."""
        xy, score, person_score = decode(maps, self.head, self.config)
        xy, limit = back.to_picture(xy), np.array([back.width - 1, back.height - 1])
        if self.config.complete:
            # A guess may lie anywhere; one near the edge may come out a fraction of a cell beyond it, in the padding.
            cell = self.head.stride / np.array([back.scale_x, back.scale_y])
            outside = ((xy < -cell) | (xy > limit + cell)).any(2) & (score < self.config.peak)
            xy, score = np.where(outside[..., None], np.nan, xy), np.where(outside, 0, score)
        xy = np.minimum(np.maximum(xy, 0), limit).astype(np.float32)
        return Poses(xy, score, person_score, self.head.output, (back.width, back.height))


def prepared_frames(inputs: Iterable[Input], steps: Steps) -> Iterator[tuple[Frame | Failed, Any]]:
    """All frames of what :func:`lithepose.frames.expand` found, each with what the network takes."""
    for frame in frames(inputs):
        yield frame, None if isinstance(frame, Failed) else steps.prepare(frame)


def makes_way(item: tuple[Frame | Failed, Any]) -> bool:
    """Whether a prepared frame that waits is to make way for the next one, as a camera's is."""
    return isinstance(item[0], Frame) and item[0].live


def open_picture(picture: Picture) -> np.ndarray:
    """(H, W, 3) uint8 RGB of whatever :class:`Predictor` takes.

    Raises:
        UnreadableImage: it is no picture.
    """
    return read_image(picture) if isinstance(picture, (str, Path)) else as_rgb(picture)


def _weights(model: str | Path) -> Path:
    known = manifest()
    if str(model) in known:
        return WEIGHTS / known[str(model)]["file"]
    if Path(model).suffix in (".onnx", ".safetensors"):
        return Path(model)
    raise ValueError(
        f"no model {str(model)!r} with weights here; there are {', '.join(known)}, or train one and give the .onnx file"
        " that `lithepose export` wrote or a .safetensors file that `lithepose pack` wrote"
    )


def _open(path: Path, threads: int) -> Runtime:
    if path.suffix == ".safetensors":
        from .runtime.packed import PackedRuntime  # needs numba

        return PackedRuntime(path, threads)
    return OnnxRuntime(path, threads)


def load(model: str | Path = DEFAULT, *, size: int = 0, threads: int = 0) -> Predictor:
    """Load the embedded default, another embedded model by name, or a model file; see :class:`Predictor`."""
    return Predictor(model, size=size, threads=threads)
