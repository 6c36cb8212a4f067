"""A worker on a machine of the cluster: one model, which does one task after the other."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..errors import ImageError, OutputError
from ..inference.box_follower import BoxFollower
from ..inference.estimator import Estimator
from ..inference.load import load
from ..inference.prefetch import ahead
from ..inference.top_down import TopDown
from ..media.inputs import ADDRESS, shown
from ..media.sources import Failed, Frame
from ..poses import Poses
from ..tracking.tracker import Following
from .config import Options
from .entries import fetch_file, frames_of_work
from .rows import Rows, rows_of
from .segments import UncutError, cut, frames_of_segment, save, saved
from .storage import Store
from .work import WHOLE, Care, Done, Segment, Work


def open_model(options: Options, threads: int) -> Estimator:
    """The model of a call, with its thresholds.

    Args:
        options: options of the call.
        threads: threads of the networks.

    Raises:
        LitheposeError: as in :func:`lithepose.inference.load.load`.
    """
    model = load(
        options.model, size=options.size, threads=threads, runtime=options.runtime, precision=options.precision
    )
    changed: Estimator = model if options.threshold is None else model.with_config(peak=options.threshold)
    if isinstance(changed, TopDown):
        changed.detect_every = options.detect_every
        changed.person = changed.person if options.min_person is None else options.min_person
    return changed


class Worker:
    """Does tasks. Each task ends by putting complete files in their place, and may be repeated at any time.

    Args:
        options: options of the call.
        out: folder of results.
        folder: folder from which relative paths start.
        content: contents of the model file and of the files that belong to it, by name, the model first; for machines
            without them.
        threads: threads of the networks.
    """

    def __init__(self, options: Options, out: str, folder: str, content: dict[str, bytes] | None, threads: int) -> None:
        os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
        os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
        if os.path.isdir(folder):
            os.chdir(folder)
        self._options, self._store = options, Store(out)
        with tempfile.TemporaryDirectory() as place:
            if content:
                for name, data in content.items():
                    (Path(place) / name).write_bytes(data)
                options = replace(options, model=str(Path(place) / next(iter(content))))
            self._model = open_model(options, threads)
        self._video = ("", "")  # the address that was fetched last, and its file

    def ready(self) -> int:
        """The id of the process."""
        return os.getpid()

    def end(self) -> None:
        """Remove the video that was fetched last."""
        with contextlib.suppress(OSError):
            os.unlink(self._video[1])

    def block(self, work: Work, care: Care) -> Done:
        """Find the people of all images of a block or shard."""
        following = Following(guessed=self._model.guessed) if self._options.track else None
        pipeline = self._model.pipeline()

        def mark(place: int) -> None:
            self._store.write_text(f"tmp/{work.name}.at", str(place))

        def prepared() -> Generator[tuple[Frame | Failed, Any], None, None]:
            for frame in frames_of_work(work, self._options.column, care, mark):
                try:
                    ready = None if isinstance(frame, Failed) else pipeline.prepare(frame)
                except Exception as error:  # one image of a billion must not end the call
                    yield Failed(frame.source, error), None
                    continue
                yield frame, ready

        with rows_of(work, self._store, self._model.skeleton) as rows:
            # A marked input must be the current one.
            items = prepared() if care.mark else ahead(prepared())
            with closing(items):
                for frame, ready in items:
                    if isinstance(frame, Failed):
                        rows.fail(frame.source, str(frame.error), type(frame.error).__name__)
                        continue
                    try:
                        poses = pipeline.finish(pipeline.run(ready))
                    except Exception as error:  # likewise
                        rows.fail(frame.source, f"{frame.name}: {error}", type(error).__name__)
                        continue
                    rows.write(frame, following(frame, poses) if following else poses)
        return rows.done

    def plan(self, work: Work) -> list[Segment]:
        """The parts in which a video is processed."""
        try:
            every = self._options.detect_every if isinstance(self._model, TopDown) else 1
            return cut(self._path(work), self._options.segment, every)
        except ImageError:
            return [WHOLE]

    def segment(self, work: Work, segment: Segment) -> bool:
        """Find the people of a part of a video, unless that is done; False if the video must be read in one piece."""
        name = f"segments/{work.name}/{segment.name}"
        if self._store.exists(f"{name}.npy"):
            return True
        failed = list[dict[str, str]]()
        temporary = self._store.temporary()
        try:
            with temporary.open("wb") as file:
                save(file, self._found(work, segment, failed))
        except UncutError:
            temporary.unlink(missing_ok=True)
            return False
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        self._store.write_lines(f"{name}.jsonl", failed)
        self._store.commit(temporary, f"{name}.npy")
        return True

    def _found(self, work: Work, segment: Segment, failed: list[dict[str, str]]) -> Iterator[tuple[Frame, Poses]]:
        model, name = self._model, shown(work.sources[0])
        follow = BoxFollower(model) if isinstance(model, TopDown) else lambda image: model.estimate([image])[0]
        try:
            for frame in ahead(frames_of_segment(self._path(work), name, segment)):
                yield frame, follow(frame.image)
        except (ImageError, OSError) as error:
            if segment != WHOLE:
                raise UncutError from error
            failed.append({"error": str(error), "type": type(error).__name__})

    def join(self, work: Work, segments: list[Segment]) -> Done:
        """Track the people over all parts of a video, and write its rows."""
        name = shown(work.sources[0])
        following = Following(guessed=self._model.guessed) if self._options.track else None
        with rows_of(work, self._store, self._model.skeleton) as rows:
            for segment in segments:
                self._join(rows, f"segments/{work.name}/{segment.name}", name, following)
        return rows.done

    def _join(self, rows: Rows, file: str, name: str, following: Following | None) -> None:
        skeleton = self._model.skeleton

        def make(xy: Any, score: Any, person_score: Any, size: Any, box: Any) -> Poses:
            return Poses(xy, score, person_score, skeleton, size, box=box)

        try:
            with self._store.fs.open(self._store.path(f"{file}.npy"), "rb") as opened:
                for frame, poses in saved(opened, name, make):
                    rows.write(frame, following(frame, poses) if following else poses)
        except FileNotFoundError as error:
            raise OutputError(f"{file}: this part of the video no longer exists; run the command again") from error
        for line in (self._store.read_text(f"{file}.jsonl") or "").splitlines():
            failure = json.loads(line)
            rows.fail(name, failure["error"], failure["type"])

    def _path(self, work: Work) -> str:
        """A path of the video on this machine; a fetched file is kept until the next one is fetched."""
        source = work.sources[0]
        if not ADDRESS.match(source):
            return source
        if self._video[0] != source:
            self.end()
            handle, path = tempfile.mkstemp(suffix=Path(source.partition("?")[0]).suffix)
            os.close(handle)
            self._video = "", path
            fetch_file(source, path)
            self._video = source, path
        return self._video[1]
