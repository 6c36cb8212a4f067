"""Estimator: images in, poses out; the calls that all ways of finding people share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from ..heads.base import Head
from ..image import as_rgb, read_image
from ..poses import Poses
from ..sources import Failed, Frame, Input, expand, frames
from ..tracking.tracker import Following
from .prefetch import ahead

BATCH = 16  # images that one call of the network gets; more are no faster and fill the memory


class _Convertible(Protocol):
    """A PIL image, known by its method."""

    def convert(self, mode: str) -> Any: ...


ImageInput = str | Path | np.ndarray | _Convertible


@dataclass(frozen=True)
class FramePoses:
    """One frame of :meth:`Estimator.stream` and the people in it."""

    frame: Frame
    poses: Poses

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.frame.image


@dataclass(frozen=True)
class Steps:
    """Estimation of one frame in three parts, for a thread each.

    Attributes:
        prepare: frame -> what the network takes.
        run: that -> what the network predicts.
        finish: that -> people.
    """

    prepare: Callable[[Frame], Any]
    run: Callable[[Any], Any]
    finish: Callable[[Any], Poses]

    @classmethod
    def whole(cls, estimate: Callable[[Frame], Poses]) -> Steps:
        """All in the second part."""
        return cls(lambda frame: frame, estimate, lambda poses: poses)


class Estimator(ABC):
    """Finds people in images; subclasses say how."""

    @property
    @abstractmethod
    def head(self) -> Head[Any]:
        """What the network's outputs mean."""

    @property
    @abstractmethod
    def one_person(self) -> bool:
        """Whether it expects one person who fills the image."""

    @property
    @abstractmethod
    def guessed(self) -> float:
        """Score below which a joint is a guess; 0 where there are none."""

    @abstractmethod
    def with_config(self, **changes: Any) -> Estimator:
        """The same model with other thresholds, by name of :class:`~lithepose.heads.base.DecodeConfig`."""

    @abstractmethod
    def estimate(self, images: list[np.ndarray]) -> list[Poses]:
        """People of (H, W, 3) uint8 RGB images."""

    @abstractmethod
    def steps(self) -> Steps:
        """A call with one image, taken apart; frames of a video may use those before them."""

    @overload
    def __call__(self, image: ImageInput) -> Poses: ...
    @overload
    def __call__(self, image: list[ImageInput]) -> list[Poses]: ...
    def __call__(self, image: ImageInput | list[ImageInput]) -> Poses | list[Poses]:
        """Find people.

        Args:
            image: path, (H, W, 3) uint8 RGB array (or grey, RGBA, uint16, floats in 0..1), PIL image, or a list of
                them. Networks on whole images run those of one input size together, up to 16 at once; networks on
                person crops run the people of one image together.

        Returns:
            Poses, or a list of them for a list.

        Raises:
            UnreadableImage: what is given is no image.
        """
        if isinstance(image, list):
            return self.estimate([open_image(p) for p in image])
        return self.estimate([open_image(image)])[0]

    def stream(
        self,
        source: str | Path | int | Iterable[str | Path],
        *,
        track: bool = False,
        smooth: bool = False,
        warm_start: bool = False,
    ) -> Iterator[FramePoses]:
        """Frame by frame through images, a folder, a video, a camera number or a network stream.

        They are read in a thread while the network works. Of a camera or stream the newest frame comes next, and those
        that it was too slow for are dropped.

        Args:
            source: one or several of them.
            track: give people of a video ids that stay with them (``poses.id``).
            smooth: steady their joints too, with a lag of about a frame.
            warm_start: run the network only where a video has changed, see
                :class:`lithepose.inference.incremental.WarmStart`.

        Raises:
            UnreadableImage: an image cannot be read; :func:`lithepose.sources.frames` goes on instead.
            ValueError: ``warm_start`` with a model that has no maps of whole images.
        """
        sources = [source] if isinstance(source, (str, Path, int)) else list(source)
        following = Following(smooth, self.guessed) if track or smooth else None
        steps = self.warm_steps() if warm_start else self.steps()
        for frame, prepared in ahead(prepared_frames(expand([str(s) for s in sources]), steps), stale=makes_way):
            if isinstance(frame, Failed):
                raise frame.error
            poses = steps.finish(steps.run(prepared))
            yield FramePoses(frame, following(frame, poses) if following else poses)

    def warm_steps(self) -> Steps:
        """As :meth:`steps`, but the network runs only where a video has changed.

        Raises:
            ValueError: the model has no maps of whole images.
        """
        raise ValueError("warm start keeps the maps of whole images, which this model does not have; leave it out")


def prepared_frames(inputs: Iterable[Input], steps: Steps) -> Iterator[tuple[Frame | Failed, Any]]:
    """All frames of what :func:`lithepose.sources.expand` found, each with what the network takes."""
    for frame in frames(inputs):
        yield frame, None if isinstance(frame, Failed) else steps.prepare(frame)


def makes_way(item: tuple[Frame | Failed, Any]) -> bool:
    """Whether a prepared frame that waits is to make way for the next one, as a camera's is."""
    return isinstance(item[0], Frame) and item[0].live


def open_image(image: ImageInput) -> np.ndarray:
    """(H, W, 3) uint8 RGB of whatever :class:`Estimator` takes.

    Raises:
        UnreadableImage: it is no image.
    """
    return read_image(image) if isinstance(image, (str, Path)) else as_rgb(image)
