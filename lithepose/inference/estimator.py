"""Estimator: images in, poses out; the base class of all models that find people."""

from __future__ import annotations

import contextlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np

from ..errors import ConfigError, ImageError
from ..guesses import FRAME, MODEL, no_attribute, with_hints
from ..heads.base import Head
from ..media.inputs import Input, expand
from ..media.sources import Failed, Frame, ReadConfig, frames
from ..poses import Poses
from ..skeleton import Skeleton
from ..tracking.per_source import PerSource
from ..tracking.selection import SelectConfig, Selection
from ..tracking.tracker import Following
from .inputs import ImageInput, Images, open_image, reversed_channels, several
from .prefetch import DEPTH, ahead

LOG = logging.getLogger(__name__)
OnError = Literal["raise", "skip", "warn"]
BATCH = 16  # images per call of the network; more are not faster and use more memory


@dataclass(frozen=True)
class FramePoses:
    """One frame of :meth:`Estimator.stream` and the people in it."""

    frame: Frame
    poses: Poses

    if not TYPE_CHECKING:  # type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise no_attribute("a frame of stream()", name, FRAME, dir(type(self)))

    @property
    def image(self) -> np.ndarray:
        """(H, W, 3) uint8 RGB."""
        return self.frame.image

    @property
    def time(self) -> float | None:
        """Seconds from the start of the video; None for an image."""
        return self.frame.time


@dataclass(frozen=True)
class Pending:
    """A frame that the network has run on. The rest can be done in another thread, frame by frame."""

    frame: Frame
    _finish: Callable[[], Poses]

    def done(self) -> FramePoses:
        """Decode and track. Call it once per frame, in order."""
        return FramePoses(self.frame, self._finish())


@dataclass(frozen=True)
class Pipeline:
    """Estimation of one frame in three parts, each for its own thread.

    Attributes:
        prepare: frame -> network input.
        run: network input -> network output.
        finish: network output -> people.
    """

    prepare: Callable[[Frame], Any]
    run: Callable[[Any], Any]
    finish: Callable[[Any], Poses]

    @classmethod
    def whole(cls, estimate: Callable[[Frame], Poses]) -> Pipeline:
        """A pipeline that does everything in its second part."""
        return cls(lambda frame: frame, estimate, lambda poses: poses)

    @classmethod
    def following(cls, begin: Callable[[], Callable[[np.ndarray], Poses]], image: Callable[[Frame], Poses]) -> Pipeline:
        """A pipeline that does everything in its second part, and uses the earlier frames of a video.

        Args:
            begin: makes a function that finds people in a video or camera, frame by frame.
            image: finds people in a single image.
        """
        followers = PerSource(begin)
        return cls.whole(lambda frame: image(frame) if frame.index is None else followers.of(frame)(frame.image))


class Estimator(ABC):
    """Finds people in images; subclasses define how."""

    @property
    @abstractmethod
    def head(self) -> Head[Any]:
        """Description of the network's outputs."""

    @property
    @abstractmethod
    def single_person(self) -> bool:
        """Whether the model expects one person who fills the image."""

    @property
    @abstractmethod
    def guessed(self) -> float:
        """Score below which a joint is a guess; 0 if there are no guesses."""

    @property
    @abstractmethod
    def lowest(self) -> float:
        """Score below which a joint counts as not found."""

    @abstractmethod
    def with_config(self, **changes: Any) -> Estimator:
        """The same model with other thresholds, named as in :class:`~lithepose.heads.base.DecodeConfig`."""

    @abstractmethod
    def estimate(self, images: list[np.ndarray]) -> list[Poses]:
        """People of (H, W, 3) uint8 RGB images."""

    @abstractmethod
    def pipeline(self) -> Pipeline:
        """A call with one image, split into parts. Frames of a video may use earlier ones."""

    if not TYPE_CHECKING:  # type checkers would accept every name

        def __getattr__(self, name: str) -> Any:
            raise no_attribute("a model", name, MODEL, dir(type(self)))

    @overload
    def __call__(self, image: ImageInput, *, on_error: OnError = ...) -> Poses: ...
    @overload
    def __call__(self, image: Images, *, on_error: Literal["raise"] = ...) -> list[Poses]: ...
    @overload
    def __call__(self, image: Images, *, on_error: OnError) -> list[Poses | None]: ...
    @with_hints
    def __call__(self, image: ImageInput | Images, *, on_error: OnError = "raise") -> Poses | list[Any]:
        """Find people.

        Args:
            image: path or http address of an image file, its bytes or the open file, (H, W, 3) uint8 RGB array (or
                grey, RGBA, uint16, floats in 0..1), (3, H, W) torch tensor, PIL image; or a list, a tuple or an
                (N, H, W, 3) array of images. Networks on whole images run those of one input size together, up to 16
                at once; networks on person crops run the people of one image together.
            on_error: what to do if one of several images cannot be read: ``raise`` its error, ``skip`` it and return
                None in its place, or ``warn``: skip it and log its error.

        Returns:
            Poses, or a list of them for several images.

        Raises:
            ImageError: the input is not an image; for several images, the message says which one.
            ConfigError: unknown ``on_error``.
        """
        check_on_error(on_error)
        images = several(image)
        if images is not None:
            return self._of_several(images, on_error)
        opened = open_image(image)
        return replace(self.estimate([opened])[0], image=opened)

    def _of_several(self, images: Sequence[ImageInput], on_error: OnError) -> list[Poses | None]:
        """Poses of each image; at most :data:`BATCH` images are in memory at once."""
        poses: list[Poses | None] = [None] * len(images)
        for first in range(0, len(images), BATCH):
            opened = dict[int, np.ndarray]()
            for i in range(first, min(first + BATCH, len(images))):
                try:
                    opened[i] = open_image(images[i])
                except ImageError as error:
                    named = ImageError(f"image {i} of {len(images)}: {error}")
                    if on_error == "raise":
                        raise named from error
                    if on_error == "warn":
                        LOG.warning("%s", named)
            for i, found in zip(opened, self.estimate(list(opened.values())) if opened else (), strict=True):
                poses[i] = found
        return poses

    @property
    def skeleton(self) -> Skeleton:
        """Joints of the results."""
        return self.head.output

    @property
    def joints(self) -> tuple[str, ...]:
        """Names of the joints, in the order of the results."""
        return self.skeleton.joints

    @with_hints
    def predict(self, image: ImageInput | Images, *, conf: float | None = None, bgr: bool = False) -> Any:
        """Find people, with options for this call.

        Args:
            image: as in a call.
            conf: lowest score of a joint.
            bgr: arrays have BGR channels, as in OpenCV.
        """
        model = self if conf is None else self.with_config(peak=conf)
        if bgr:
            images = several(image)
            image = reversed_channels(image) if images is None else [reversed_channels(one) for one in images]
        return model(image)

    @with_hints
    def stream(
        self,
        source: str | Path | int | Iterable[str | Path],
        *,
        track: bool = False,
        smooth: bool = False,
        incremental: bool = False,
        on_error: OnError = "raise",
        read: ReadConfig | None = None,
        select: SelectConfig | None = None,
    ) -> Iterator[FramePoses]:
        """Find people frame by frame in images, a folder, a video, a camera (by number) or a network stream.

        Frames are read in a thread while the network runs. For a camera or stream, the newest frame comes next, and
        frames that the network was too slow for are dropped.

        Args:
            source: one or several sources.
            track: assign each person in a video an id that stays the same (``poses.id``).
            smooth: smooth their joints too, with a lag of about a frame.
            incremental: run the network only where a video has changed, see
                :class:`lithepose.inference.incremental.Incremental`.
            on_error: whether an input that cannot be read raises its error (``raise``), is skipped (``skip``), or is
                skipped and logged (``warn``).
            read: the part of videos to read, and how long to retry interrupted streams.
            select: people to keep.

        Raises:
            ImageError: an image cannot be read.
            ConfigError: ``incremental`` with a model that has no maps of full images.
        """
        check_on_error(on_error)
        sources = [source] if isinstance(source, (str, Path, int)) else list(source)
        pipeline = self.incremental_pipeline() if incremental else self.pipeline()
        for item in self.run_pipeline(
            expand([str(s) for s in sources]), pipeline, track=track, smooth=smooth, read=read, select=select
        ):
            if isinstance(item, Pending):
                yield item.done()
            elif on_error == "raise":
                raise item.error
            elif on_error == "warn":
                LOG.warning("%s", item.error)

    def run_pipeline(
        self,
        inputs: Iterable[Input],
        pipeline: Pipeline,
        *,
        track: bool = False,
        smooth: bool = False,
        read: ReadConfig | None = None,
        select: SelectConfig | None = None,
    ) -> Generator[Pending | Failed, None, None]:
        """The loop over all frames, which Python and the command line share.

        Args:
            inputs: inputs from :func:`lithepose.media.inputs.expand`, read in their own thread.
            pipeline: pipeline of this estimator.
            track: assign ids to the people in videos.
            smooth: smooth their joints too.
            read: as in :func:`lithepose.media.sources.frames`.
            select: people to keep.

        Yields:
            a frame that the network has run on, or an input that failed; the other inputs continue.
        """
        inputs = list(inputs)
        by_id = track or smooth or (select is not None and select.by_id)
        following = Following(smooth, self.guessed) if by_id else None
        selection = Selection(select) if select else None

        def finish(frame: Frame, result: Any) -> Poses:
            poses = pipeline.finish(result)
            poses = following(frame, poses) if following else poses
            return selection(frame, poses) if selection else poses

        depth = max(DEPTH, sum(item.kind == "live" for item in inputs))
        prepared = ahead(_prepared(inputs, pipeline, read), depth, _makes_way)
        with contextlib.closing(prepared):
            for frame, ready in prepared:
                if isinstance(frame, Failed):
                    yield frame
                    continue
                try:
                    result = pipeline.run(ready)
                except ImageError as error:  # only this frame fails
                    yield Failed(frame.source, error)
                    continue
                yield Pending(frame, partial(finish, frame, result))

    def incremental_pipeline(self) -> Pipeline:
        """Like :meth:`pipeline`, but the network runs only where a video has changed.

        Raises:
            ConfigError: the model has no maps of full images.
        """
        raise ConfigError("incremental inference needs maps of the full image, which this model does not have")


def _prepared(
    inputs: Iterable[Input], pipeline: Pipeline, read: ReadConfig | None
) -> Iterator[tuple[Frame | Failed, Any]]:
    """All frames, each with its network input."""
    for frame in frames(inputs, read):
        yield frame, None if isinstance(frame, Failed) else pipeline.prepare(frame)


def _makes_way(waiting: tuple[Frame | Failed, Any], item: tuple[Frame | Failed, Any]) -> bool:
    """Whether a waiting frame is dropped for the next one, as for frames of the same camera."""
    return isinstance(waiting[0], Frame) and waiting[0].live and waiting[0].source == item[0].source


def check_on_error(on_error: str) -> None:
    """Refuse an unknown ``on_error``.

    Raises:
        ConfigError: it is unknown; the message names the known ones.
    """
    if on_error not in get_args(OnError):
        raise ConfigError(f"unknown on_error={on_error!r}; choose one of {', '.join(get_args(OnError))}")
