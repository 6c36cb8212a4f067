"""lithepose predict"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ._console import OK, SOME_FAILED, STOPPED, err_console
from ._files import keep_sources

if TYPE_CHECKING:
    from collections.abc import Generator

    from ..inference.estimator import Estimator, Pending
    from ..sources import Failed, Input


def predict(
    sources: tuple[str, ...],
    /,
    out: Path | None = None,
    json: Path | None = None,
    format: Literal["lithepose", "coco", "openpose", "csv"] | None = None,
    model: str = "lithe",
    size: int = 0,
    threads: int = 0,
    threshold: float | None = None,
    complete: bool = False,
    flip: bool = False,
    boxes: str = "",
    track: bool = False,
    smooth: bool = False,
    incremental: bool = False,
    detect_every: int = 3,
    start: float = 0.0,
    end: float = 0.0,
    every: int = 1,
    reconnect: float = 30.0,
    size_camera: tuple[int, int] | None = None,
) -> int:
    """Find people in images, folders, globs, videos, cameras (by index) and streams (rtsp://...).

    Drawn images and videos go to OUT, with poses.jsonl beside them; with --json alone nothing is drawn.

    Args:
        sources: images, videos, folders, globs, camera indices or stream URLs.
        out: folder for drawn images and videos. Default: ./out, unless --json is given.
        json: file for the joints; - is standard output. Default: OUT/poses.jsonl.
        format: of that file; openpose makes it a folder of one json a frame. Default: csv if it is called .csv; else
            lithepose, which is one json line a frame, or one json list if it is called .json.
        model: name of an embedded model, or an .onnx or packed .safetensors file.
        size: longer side of the input, of the person detector for lithe; 0 is the model's own. Larger finds smaller
            people, slower.
        threads: of the network; 0 takes one a core.
        threshold: lowest score of a joint, above 0 and below 1. Default: 0.35 for lithe, 0.18 for others.
        complete: guess the joints of a person that were not found (of COCO's 17); their scores are below half the
            threshold.
        flip: average with the mirrored image: better, at twice the time.
        boxes: for networks of one person, where people are: name of a model that finds them (with its own size and
            threshold), or a .json {"image.jpg": [[x, y, width, height], ...]}. Default: for lithe the embedded person
            detector, for others one person who fills the image.
        track: give the people of a video ids that stay with them.
        smooth: track them and steady their joints, which lag by about a frame.
        incremental: run the network only where a video has changed: faster where camera and most people stand still.
            For networks with maps of whole images, as lithe_paf.
        detect_every: in a video, run the person detector at least every so many frames; between, boxes follow people
            until a person is lost; above 5, also until something else moves.
        start: seconds of a video that are skipped.
        end: second at which a video ends; 0 is its own end.
        every: only every so many frames of a video, camera or stream.
        reconnect: seconds for which a stream that broke off is tried again; 0: not at all.
        size_camera: width and height to ask cameras for.
    """
    from ..errors import ConfigError
    from ..inference.top_down import TopDown
    from ..skeleton import COCO_17, OPENPOSE_18
    from ..sources import ReadConfig, expand, skipped

    if not sources:
        raise ConfigError("no input: pass an image, video, folder, glob, camera index or stream URL")
    if threshold is not None and not 0 < threshold < 1:
        raise ConfigError(f"threshold {threshold}: must be above 0 and below 1")
    inputs, errors = [], dict[str, OSError]()
    for source in sources:
        try:
            inputs += expand([source])
            if left := skipped(source):
                kinds = ", ".join(f"{count} {suffix}" for suffix, count in left.most_common())
                err_console.print(
                    f"{source}: {left.total()} files are neither images nor videos: {kinds}", markup=False
                )
        except OSError as error:
            errors[source] = error
    if not inputs:
        raise next(iter(errors.values()))
    failures = {source: str(error) for source, error in errors.items()}
    if incremental and boxes:
        raise ConfigError("--incremental keeps the maps of whole images; leave it or --boxes out")
    estimator = _estimator(model, boxes, size, threads, flip, inputs, failures)
    estimator = estimator.with_config(
        **({"peak": threshold} if threshold is not None else {}), **({"complete": True} if complete else {})
    )
    if isinstance(estimator, TopDown):
        if detect_every < 1:
            raise ConfigError(f"--detect-every {detect_every}: must be 1 or more")
        estimator.detect_every = detect_every
    format = format or ("csv" if json and json.suffix.lower() == ".csv" else "lithepose")
    written = {"coco": COCO_17, "openpose": OPENPOSE_18}.get(format)
    if written and not set(written.joints) & set(estimator.head.output.joints):
        raise ConfigError(f"--format {format}: it has none of {model}'s joints; take lithepose or csv")
    if json is None:
        out = out or Path("out")
        name = {"lithepose": "poses.jsonl", "coco": "poses.json", "csv": "poses.csv", "openpose": "openpose"}[format]
        json = out / name
    keep_sources(json, [*(i.source for i in inputs), boxes, model])
    inputs = [i for i in inputs if i.source not in failures]
    pipeline = estimator.incremental_pipeline() if incremental else estimator.pipeline()
    read = ReadConfig(start, end, every, reconnect, size_camera)
    results = estimator.run_pipeline(inputs, pipeline, track=track, smooth=smooth, read=read)
    return _write_all(results, inputs, out, json, format, failures)


def _estimator(
    model: str, boxes: str, size: int, threads: int, flip: bool, inputs: list[Input], failures: dict[str, str]
) -> Estimator:
    """The model; with ``boxes`` a network of one person on the boxes of a model or a file.

    Inputs that have no boxes in the file go to the failures.
    """
    from ..errors import ConfigError
    from ..inference.load import load
    from ..inference.models import manifest, open_runtime
    from ..inference.predictor import Predictor
    from ..inference.top_down import TopDown, boxes_of, open_finder, read_boxes
    from ..sources import shown

    if not boxes:
        return load(model, size=size, threads=threads, flip=flip)
    runtime = open_runtime(model, threads)
    crops = bool(runtime.info.crop)  # the size is then that of what finds people
    single = Predictor(runtime, size=0 if crops else size, flip=flip)
    suffix = Path(boxes).suffix.lower()
    if suffix != ".json":
        if Path(boxes).is_file() and boxes not in manifest() and suffix not in (".onnx", ".safetensors"):
            raise ConfigError(f"{boxes}: a file of boxes must be called .json")
        return TopDown(single, open_finder(boxes, threads, size if crops else 0))
    given = read_boxes(boxes)
    for source in {i.source for i in inputs if boxes_of(given, shown(i.source)) is None}:
        failures[source] = f"{shown(source)}: no boxes in {boxes}; give it a list, empty if there is no person"
    if all(i.source in failures for i in inputs):
        asked = ", ".join(shown(i.source) for i in inputs)
        has = f"some for {', '.join(given)}" if given else "none at all"
        raise ConfigError(f"{boxes}: no boxes for {asked}; it has {has}")
    return TopDown(single, boxes=given)


def _write_all(
    results: Generator[Pending | Failed, None, None],
    inputs: list[Input],
    out: Path | None,
    json: Path,
    format: str,
    failures: dict[str, str],
) -> int:
    """Draw and write every frame in a thread behind the network, then say what was done and what failed."""
    from ..drawing import draw
    from ..inference.prefetch import Behind
    from ..sources import Failed
    from ..writers.images import ImageSink
    from ..writers.results import ResultFile

    began, count, people, stopped, unwritten = time.perf_counter(), 0, 0, False, dict[str, str]()
    # The folder first: a call that cannot be carried out must not empty an earlier result file.
    named = [*(i.source for i in inputs if i.kind != "live"), *failures]
    images = ImageSink(out, named) if out else None
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("frames"), TimeElapsedColumn()
    progress = Progress(*columns, console=err_console, disable=not err_console.is_terminal, transient=True)

    def write(pending: Pending) -> None:
        nonlocal count, people
        result = pending.done()
        frame, poses = result.frame, result.poses
        count, people = count + 1, people + len(poses)
        try:
            file.write(frame, poses)
            if images and frame.source not in unwritten:
                images.write(frame, draw(frame.image, poses, copy=False))
        except BrokenPipeError:
            if not stopped:  # an interrupt ends the reader of a pipe too
                raise
        except OSError as error:
            unwritten.setdefault(frame.source, str(error))

    def close() -> None:
        try:
            file.close()
        except BrokenPipeError:
            raise
        except OSError as error:  # still report the drawn images and the failures
            unwritten.setdefault(str(json), str(error))

    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(_Interrupts())
        file = ResultFile(json, format, sys.stdout)
        stack.callback(close)
        if images:
            stack.callback(images.close)
        try:
            task = stack.enter_context(progress).add_task("", total=None)
            writer = stack.enter_context(Behind(write))
            stack.enter_context(contextlib.closing(results))
            for item in results:
                if isinstance(item, Failed):
                    failures[item.source] = str(item.error)
                    continue
                progress.update(task, advance=1, description=os.path.basename(item.frame.source))
                writer.put(item)
            interrupts.finishing = True
        except KeyboardInterrupt:  # how a camera is ended; what was written is whole
            stopped = True
    failures = unwritten | (images.failures if images else {}) | failures
    for source, error in failures.items():
        err_console.print(
            error if source in error else f"{source}: {error}", style="red", markup=False, highlight=False
        )
    where = " and ".join(str(p) for p in ([out] if out else []) + ([json] if str(json) != "-" else []))
    err_console.print(
        f"{count} {'frame' if count == 1 else 'frames'}, {people} {'person' if people == 1 else 'people'},"
        f" {len(failures)} failed, {time.perf_counter() - began:.1f} s"
        + (f" -> {where}" if where and count else "")
        + (" (interrupted)" if stopped else ""),
        markup=False,
        highlight=False,
    )
    return STOPPED if stopped and not all(i.kind == "live" for i in inputs) else SOME_FAILED if failures else OK


class _Interrupts:
    """Raises KeyboardInterrupt once for SIGINT and SIGTERM; one more is ignored, since closing a video takes a moment.

    Without that moment the video does not play. A context manager, which restores the handlers at its end; it does
    nothing outside the main thread.

    Attributes:
        finishing: all frames are dealt with: ignore the first interrupt too.
    """

    def __init__(self) -> None:
        self.finishing, self._ignored = False, False
        in_main = threading.current_thread() is threading.main_thread()
        self._before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)} if in_main else {}

    def __enter__(self) -> _Interrupts:
        for number in self._before:
            signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        if self.finishing and not self._ignored:
            self._ignored = True
            return
        self.finishing = True
        raise KeyboardInterrupt
