"""Results of frames -> one track for every person of every video."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..errors import ConfigError
from ..poses import Poses
from ..skeleton import Skeleton
from ..tracking.tracker import Tracker
from ..writers.results import Place


@dataclass(frozen=True)
class Track:
    """One person over the frames of a video, from the first to the last frame with that person; or in one image.

    Attributes:
        source: path, address or camera number.
        id: id of the person; None in an image.
        frames: (T,) numbers of the frames; None for an image.
        times: (T,) seconds, rising.
        places: (T,) index of the person in its frame, from 0; -1 in frames without the person.
        xy: (T, K, 2) pixels, NaN where not found.
        score: (T, K), 0 where not found.
        skeleton: names of the K joints.
    """

    source: str
    id: int | None
    frames: np.ndarray | None
    times: np.ndarray
    places: np.ndarray
    xy: np.ndarray
    score: np.ndarray
    skeleton: Skeleton


Row = tuple[int, int, np.ndarray]  # index of the frame in its video, index of the person in its frame, (K, 3)


class Tracks:
    """Collects results, frame by frame."""

    def __init__(self) -> None:
        self.skeleton: Skeleton | None = None
        self._frames: dict[str, list[tuple[int, float]]] = {}
        self._rows: dict[tuple[str, int], list[Row]] = {}
        self._nameless: dict[str, list[tuple[int, Poses]]] = {}
        self._images: list[Track] = []

    def add(self, frame: Place, poses: Poses) -> None:
        """Keep the result of one frame.

        Raises:
            ConfigError: another skeleton than that of earlier frames, or times that do not increase.
        """
        self.skeleton = self.skeleton or poses.skeleton
        if poses.skeleton != self.skeleton:
            names = f"{self.skeleton.name} and {poses.skeleton.name}"
            raise ConfigError(f"{frame.source}: the results have different joints ({names}); use results of one model")
        flat = poses.to_numpy()
        if frame.index is None:
            for place, person in enumerate(flat[:, None]):
                where = np.array([place])
                self._images.append(
                    Track(frame.source, None, None, np.zeros(1), where, person[..., :2], person[..., 2], self.skeleton)
                )
            return
        frames = self._frames.setdefault(frame.source, [])
        time = float(frame.index) if frame.time is None else frame.time
        if frames and time <= frames[-1][1]:
            problem = f"{frame.source}: the frame times do not increase at frame {frame.index}"
            raise ConfigError(f"{problem}; check for duplicate results")
        frames.append((frame.index, time))
        if poses.id is None:
            self._nameless.setdefault(frame.source, []).append((len(frames) - 1, poses))
        else:
            self._keep(frame.source, len(frames) - 1, poses)

    def _keep(self, source: str, at: int, poses: Poses) -> None:
        assert poses.id is not None
        for place, (number, person) in enumerate(zip(poses.id.tolist(), poses.to_numpy(), strict=True)):
            if number >= 0:
                self._rows.setdefault((source, number), []).append((at, place, person))

    def _follow(self) -> None:
        """Give ids to people in videos without ids: 1 to a single person, else as ``--track`` does."""
        for source, frames in self._nameless.items():
            tracker = Tracker() if any(len(poses) > 1 for _, poses in frames) else None
            for at, poses in frames:
                time = self._frames[source][at][1]
                named = tracker(poses, time) if tracker else replace(poses, id=np.ones(len(poses), np.int64))
                self._keep(source, at, named)
        self._nameless.clear()

    def __iter__(self) -> Iterator[Track]:
        """The tracks of videos, by source and id, then those of images."""
        self._follow()
        order = {source: i for i, source in enumerate(self._frames)}
        for (source, number), rows in sorted(self._rows.items(), key=lambda item: (order[item[0][0]], item[0][1])):
            first, last = rows[0][0], rows[-1][0]
            frames, times = zip(*self._frames[source][first : last + 1], strict=True)
            flat = np.full((last - first + 1, *rows[0][2].shape), np.nan)
            places = np.full(len(flat), -1)
            for at, place, person in rows:
                flat[at - first], places[at - first] = person, place
            score = np.nan_to_num(flat[..., 2])
            assert self.skeleton
            yield Track(source, number, np.array(frames), np.array(times), places, flat[..., :2], score, self.skeleton)
        yield from self._images
