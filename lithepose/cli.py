"""The command line: a table of plain functions that return the exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
from rich.progress import MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from .cli_measure import benchmark, evaluate
from .cli_networks import OK, complexity, err_console, export, out_console, pack, receptive_field, train

SOME_FAILED, UNUSABLE, STOPPED = 1, 2, 130

if TYPE_CHECKING:
    from collections.abc import Callable

    from .inference.estimator import Steps
    from .inference.top_down import TopDown
    from .poses import Poses
    from .sources import Frame, Input


def demo(out: Path = Path("lithepose-demo.jpg")) -> int:
    """Find the person in an embedded image, print the joints and write the drawn image: proves the install.

    Args:
        out: image to write.
    """
    from .drawing import draw
    from .image import read_image
    from .inference.load import load
    from .resources import SAMPLE
    from .writers.images import write_image

    image = read_image(SAMPLE)
    model = load()
    began = time.perf_counter()
    poses = model(image)
    milliseconds = (time.perf_counter() - began) * 1000
    if not len(poses):
        err_console.print("lithepose: no person found in the embedded image; this install is broken")
        return SOME_FAILED
    table = Table(
        "joint", "x", "y", "score", title=f"the surest of {len(poses)} found, score {poses.person_score[0]:.2f}"
    )
    for joint, (x, y), score in zip(poses.joints, poses.xy[0], poses.score[0], strict=True):
        if score > 0:
            table.add_row(joint, f"{x:.1f}", f"{y:.1f}", f"{score:.2f}")
    write_image(out, draw(image, poses))
    out_console.print(table)
    out_console.print(f"{milliseconds:.0f} ms for a {image.shape[1]}x{image.shape[0]} image; drawn: {out}")
    return OK


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
    warm_start: bool = False,
    detect_every: int = 15,
) -> int:
    """Find people in images, folders, patterns, videos, cameras (a number) and streams (rtsp://...).

    Drawn images and videos go to OUT, with poses.jsonl beside them; with --json alone nothing is drawn.

    Args:
        sources: files, folders, patterns, camera numbers or addresses.
        out: folder for drawn images and videos. Default: ./out, unless --json is given.
        json: file for the joints; - is standard output. Default: OUT/poses.jsonl.
        format: of that file; openpose makes it a folder of one json a frame. Default: csv if it is called .csv; else
            lithepose, which is one json line a frame, or one json list if it is called .json.
        model: name of an embedded model, or an .onnx or packed .safetensors file.
        size: longer side of the input, of the person detector for lithe; 0 is the model's own. Larger finds smaller
            people, slower.
        threads: of the network; 0 takes one a core.
        threshold: lowest score of a joint, above 0 and below 1. Default: 0.3 for lithe, 0.18 for others.
        complete: guess the joints of a person that were not found (of COCO's 17); their scores are below half the
            threshold.
        flip: average with the mirrored image: better, at twice the time.
        boxes: for networks of one person, where people are: name of a model that finds them (with its own size and
            threshold), or a .json {"image.jpg": [[x, y, width, height], ...]}. Default: for lithe the embedded person
            detector, for others one person who fills the image.
        track: give the people of a video ids that stay with them.
        smooth: track them and steady their joints, which lag by about a frame.
        warm_start: run the network only where a video has changed: faster where camera and most people stand still.
            For networks with maps of whole images, as lithe_paf.
        detect_every: in a video, run the person detector at least every so many frames; between, boxes follow people
            until a person is lost or something else moves.
    """
    from .inference.load import load
    from .inference.top_down import TopDown
    from .skeleton import COCO_17, OPENPOSE_18
    from .sources import expand
    from .tracking.tracker import Following

    if not sources:
        raise ValueError("no input: pass an image, video, folder, pattern, camera number or stream")
    if threshold is not None and not 0 < threshold < 1:
        raise ValueError(f"threshold {threshold}: must be above 0 and below 1")
    inputs, missing = [], {}
    for source in sources:
        try:
            inputs += expand([source])
        except OSError as error:
            missing[source] = error
    if not inputs:
        raise next(iter(missing.values()))
    config = {"peak": threshold} if threshold is not None else {}
    config |= {"complete": True} if complete else {}
    failures = {source: str(error) for source, error in missing.items()}
    if warm_start and boxes:
        raise ValueError("--warm-start keeps the maps of whole images; leave it or --boxes out")
    if boxes:
        estimator, steps = _on_boxes(model, boxes, size, threads, config, flip, inputs, failures)
    else:
        estimator = load(model, size=size, threads=threads, flip=flip).with_config(**config)
        steps = estimator.warm_steps() if warm_start else estimator.steps()
    if isinstance(estimator, TopDown):
        if detect_every < 1:
            raise ValueError(f"--detect-every {detect_every}: must be 1 or more")
        estimator.detect_every = detect_every
    format = format or ("csv" if json and json.suffix.lower() == ".csv" else "lithepose")
    theirs = {"coco": COCO_17, "openpose": OPENPOSE_18}.get(format)
    if theirs and not set(theirs.joints) & set(estimator.head.output.joints):
        raise ValueError(f"--format {format}: it has none of {model}'s joints; take lithepose or csv")
    if json is None:
        out = out or Path("out")
        name = {"lithepose": "poses.jsonl", "coco": "poses.json", "csv": "poses.csv", "openpose": "openpose"}[format]
        json = out / name
    _keep_sources(json, [*(i.source for i in inputs), boxes, model])
    follow = Following(smooth, estimator.guessed) if track or smooth else lambda frame, poses: poses
    return _predict(steps, follow, [i for i in inputs if i.source not in failures], out, json, format, failures)


def _on_boxes(
    model: str,
    boxes: str,
    size: int,
    threads: int,
    config: dict[str, float],
    flip: bool,
    inputs: list[Input],
    failures: dict[str, str],
) -> tuple[TopDown, Steps]:
    """A network of one person on boxes of a model or a file; what has no boxes in the file goes to the failures."""
    from .inference.estimator import Steps
    from .inference.models import manifest, open_runtime
    from .inference.predictor import Predictor
    from .inference.top_down import BoxError, TopDown, boxes_of, open_finder, read_boxes
    from .sources import shown

    runtime = open_runtime(model, threads)
    crops = bool(runtime.info.crop)  # the size is then that of what finds people
    one = Predictor(runtime, size=0 if crops else size, flip=flip).with_config(**config)
    suffix = Path(boxes).suffix.lower()
    if suffix != ".json":
        if Path(boxes).is_file() and boxes not in manifest() and suffix not in (".onnx", ".safetensors"):
            raise ValueError(f"{boxes}: a file of boxes must be called .json")
        top_down = TopDown(one, open_finder(boxes, threads, size if crops else 0))
        return top_down, top_down.steps()
    given, top_down = read_boxes(boxes), TopDown(one)
    for source in {i.source for i in inputs if boxes_of(given, shown(i.source)) is None}:
        failures[source] = f"{shown(source)}: no boxes in {boxes}; give it a list, empty if there is no person"
    if all(i.source in failures for i in inputs):
        asked = ", ".join(shown(i.source) for i in inputs)
        has = f"some for {', '.join(given)}" if given else "none at all"
        raise ValueError(f"{boxes}: no boxes for {asked}; it has {has}")

    def estimate(frame: Frame) -> Poses:
        try:
            return top_down(frame.image, boxes_of(given, frame.source))
        except BoxError as error:
            raise BoxError(f"{frame.name}: {error}; see {boxes}") from error

    return top_down, Steps.whole(estimate)


def _predict(
    steps: Steps,
    follow: Callable[[Frame, Poses], Poses],
    inputs: list[Input],
    out: Path | None,
    json: Path,
    format: str,
    failures: dict[str, str],
) -> int:
    from .drawing import draw
    from .inference.estimator import makes_way, prepared_frames
    from .inference.prefetch import Behind, ahead
    from .inference.top_down import BoxError
    from .sources import Failed
    from .writers.images import ImageSink
    from .writers.results import ResultFile

    began, count, people, stopped, unwritten = time.perf_counter(), 0, 0, False, dict[str, str]()
    # The folder first: what is in an earlier result file shall outlive a call that cannot be carried out.
    named = [*(i.source for i in inputs if i.kind != "live"), *failures]
    images = ImageSink(out, named) if out else None
    columns = TextColumn("{task.description}"), MofNCompleteColumn(), TextColumn("frames"), TimeElapsedColumn()
    progress = Progress(*columns, console=err_console, disable=not err_console.is_terminal, transient=True)

    def write(result: tuple[Frame, Any]) -> None:
        nonlocal count, people
        frame, poses = result[0], follow(result[0], steps.finish(result[1]))
        count, people = count + 1, people + len(poses)
        try:
            results.write(frame, poses)
            if images and frame.source not in unwritten:
                images.write(frame, draw(frame.image, poses, copy=False))
        except BrokenPipeError:
            if not stopped:  # an interrupt ends the reader of a pipe too
                raise
        except OSError as error:
            unwritten.setdefault(frame.source, str(error))

    def close() -> None:
        try:
            results.close()
        except BrokenPipeError:
            raise
        except OSError as error:  # the drawn images and what failed are told all the same
            unwritten.setdefault(str(json), str(error))

    with contextlib.ExitStack() as stack:
        interrupts = stack.enter_context(_Interrupts())
        results = ResultFile(json, format, sys.stdout)
        stack.callback(close)
        if images:
            stack.callback(images.close)
        try:
            task = stack.enter_context(progress).add_task("", total=None)
            writer = stack.enter_context(Behind(write))
            read = stack.enter_context(contextlib.closing(ahead(prepared_frames(inputs, steps), stale=makes_way)))
            for frame, prepared in read:
                if isinstance(frame, Failed):
                    failures[frame.source] = str(frame.error)
                    continue
                try:
                    result = steps.run(prepared)
                except BoxError as error:
                    failures[frame.source] = str(error)
                    continue
                progress.update(task, advance=1, description=os.path.basename(frame.source))
                writer.put((frame, result))
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


def _keep_sources(json: Path, sources: list[str]) -> None:
    """Refuse to write the results over an image or over a file that is read.

    Raises:
        ValueError: names the file.
    """
    from .sources import IMAGES, VIDEOS

    if json.suffix.lower() in IMAGES | VIDEOS:
        raise ValueError(f"{json}: is the name of an image or video; name a .json, .jsonl or .csv for the results")
    if str(json) != "-" and json.exists() and any(os.path.exists(s) and json.samefile(s) for s in sources):
        raise ValueError(f"{json}: is one of the files to read; name another for the results")


def models() -> int:
    """List the embedded models with their measured scores, and the networks that can be trained."""
    import csv

    from .inference.models import WEIGHTS, manifest

    embedded = Table("name", "parameters", "GMACs", "file", "scores", title="embedded")
    for name, model in manifest().items():
        file = WEIGHTS / model["file"]
        front = file.with_name(f"{file.stem}-front.onnx")  # of a network in bits
        parts = [part for part in (file, front) if part.exists()]
        megabytes = sum(part.stat().st_size for part in parts) / 1e6
        embedded.add_row(
            name,
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['macs'] / 1e9:.2f} at {model['macs_at']}",
            f"{' and '.join(part.name for part in parts)} ({megabytes:.1f} MB)",
            ", ".join(f"{k} {v:.3f}" for k, v in model["scores"].items()) + f" ({model['measured_on']})",
        )
    name = Column("network", no_wrap=True)
    networks = Table(name, "paper", "input", "parameters", "GMACs", "MB fp32", "fp16", "bits", title="to train")
    with open(WEIGHTS / "networks.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            said = [row["paper_parameters"], row["paper_gmacs"]]
            counts = f"{int(row['parameters']) / 1e6:.2f} M", f"{int(row['macs']) / 1e9:.2f}"
            printed = f" ({float(said[0]) / 1e6:.2f} M)" if said[0] else "", f" ({said[1]})" if said[1] else ""
            counts = [c + p for c, p in zip(counts, printed, strict=True)]
            sizes = row["mb_fp32"], row["mb_fp16"], row["mb_packed"] if row["mb_packed"] != row["mb_fp32"] else ""
            networks.add_row(row["network"], row["paper"], row["input"], *counts, *sizes)
    out_console.print(embedded)
    out_console.print(networks)
    out_console.print(
        "In brackets what the paper prints; bits: binary weights in bits, the rest in fp32. binary_paf runs with the"
        " extra binary; `lithepose complexity NETWORK` (extra train) counts other options and sizes."
    )
    return OK


COMMANDS = {
    "demo": demo,
    "predict": predict,
    "models": models,
    "evaluate": evaluate,
    "benchmark": benchmark,
    "train": train,
    "export": export,
    "pack": pack,
    "complexity": complexity,
    "receptive-field": receptive_field,
}


def main(arguments: Annotated[list[str] | None, tyro.conf.Suppress] = None) -> int:
    """Run one command.

    Returns:
        0: all done; 1: some inputs failed, each named on standard error; 2: the call cannot be carried out; 130:
        interrupted.
    """
    # What OpenCV prints about a broken file is in our own message, with the name of the file.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if threading.current_thread() is threading.main_thread():  # stopped by a service manager is as by Ctrl-C
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    if (arguments if arguments is not None else sys.argv[1:]) == ["--version"]:
        from . import __version__

        out_console.print(f"lithepose {__version__}", highlight=False)
        return OK
    try:
        return tyro.extras.subcommand_cli_from_dict(
            COMMANDS, prog="lithepose", description="Fast 2D human pose estimation.", args=arguments
        )
    except BrokenPipeError:  # the reader of a pipe went away, as head does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK
    except KeyboardInterrupt:
        return STOPPED
    except (OSError, ValueError, ImportError, FloatingPointError, MemoryError) as error:
        err_console.print(f"lithepose: {error}", style="red", markup=False, highlight=False)
        return UNUSABLE
