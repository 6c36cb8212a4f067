"""lithepose predict"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..errors import ConfigError
from .calls.console import counted, note
from .calls.files import keep_sources, refuse_existing
from .calls.motion import Kept, check_motion, write_motion
from .calls.options import DrawOptions, MotionOptions, changed
from .calls.writing import write_all

if TYPE_CHECKING:
    from ..inference.estimator import Estimator
    from ..media.inputs import Input
    from ..writers.results import Results

Format = Literal["lithepose", "coco", "openpose", "openpose25", "csv", "csv-wide", "parquet", "trc"]
NAMES = {"lithepose": "poses.jsonl", "coco": "poses.json", "parquet": "poses.parquet"}
NAMES |= {"csv": "poses.csv", "csv-wide": "poses.csv"}  # others are folders named like the format


def predict(
    sources: tuple[str, ...],
    /,
    out: Path | None = None,
    json: Path | None = None,
    format: Format | None = None,
    model: str = "lithe",
    size: int = 0,
    threads: int = 0,
    runtime: Literal["auto", "onnx", "openvino", "torch"] = "auto",
    device: Literal["cpu", "cuda", "tensorrt", "coreml", "directml"] = "cpu",
    precision: Literal["", "fp32", "bf16", "int8"] = "",
    threshold: float | None = None,
    decoder: Literal["", "openpose"] = "",
    complete: bool = False,
    flip: bool = False,
    boxes: str = "",
    track: bool = False,
    smooth: bool = False,
    incremental: bool = False,
    detect_every: int = 5,
    start: float = 0.0,
    end: float = 0.0,
    every: int = 1,
    reconnect: float = 30.0,
    size_camera: tuple[int, int] | None = None,
    min_person: float | None = None,
    max_people: int = 0,
    person: str = "",
    region: tuple[float, float, float, float] | None = None,
    ids_from: Path | None = None,
    overwrite: bool = False,
    resume: bool = False,
    shard: str = "",
    show: bool = False,
    drawing: DrawOptions = DrawOptions(),  # noqa: B008
    motion: MotionOptions = MotionOptions(),  # noqa: B008
) -> int:
    """Find people in images, folders, globs, videos, cameras (by index) and streams (rtsp://...).

    Drawn images and videos are written to OUT, together with poses.jsonl. With only --json, nothing is drawn. Results
    of an earlier call are not replaced.

    Examples:
        lithepose predict image.jpg clip.mp4
        lithepose predict folder --json poses.csv
        lithepose predict 0 --track --out camera

    Args:
        sources: images, videos, folders, globs, camera indices or stream URLs.
        out: folder for drawn images and videos. Default: ./out, or ./out-2 and so on if that has results, unless --json
            is set.
        json: file for the joints; - is standard output. Default: OUT/poses.jsonl.
        format: format of that file. openpose (18 joints) and openpose25 write a folder with one json per frame, trc a
            folder with one file per person of a video. Default: set by its suffix, .csv, .parquet, .json (one list)
            or .jsonl (one line per frame).
        model: name of an embedded model, or an .onnx or packed .safetensors file.
        size: longer side of the input (for lithe, of the person detector); 0 is the model's own. A larger size finds
            smaller people, but is slower.
        threads: threads of the network; 0 uses one per core.
        runtime: runtime of the network. auto is OpenVINO on x86 where it is installed, else ONNX Runtime; -v prints the
            choice.
        device: device for ONNX Runtime; a missing device is an error.
        precision: fp32, bf16 (OpenVINO) or int8. Default: the file's own, fp32 for embedded models.
        threshold: lowest score of a joint, above 0 and below 1. Default: 0.35 for lithe, 0.18 for others.
        decoder: openpose uses OpenPose's own thresholds and groups limb by limb; for networks with part affinity
            fields.
        complete: guess joints that were not found (of COCO's 17); their scores are below half the threshold.
        flip: average with the mirrored image: more accurate, but takes twice the time.
        boxes: boxes of people, for single-person networks: name of a model that finds them (with its own size and
            threshold), or a .json {"image.jpg": [[x, y, width, height], ...]}. Default: for lithe, the embedded person
            detector; for others, one person who fills the image.
        track: assign each person in a video an id that stays the same.
        smooth: track people and smooth their joints, with a lag of about a frame.
        incremental: run the network only where a video has changed: faster if the camera and most people do not move.
            For networks with maps of full images, such as lithe_paf.
        detect_every: in a video, run the person detector at least every N frames. In between, boxes follow people until
            a person is lost or, if N is above 5, until something else moves.
        start: seconds to skip at the start of a video.
        end: second at which to stop reading a video; 0 reads to its end.
        every: use only every N-th frame of a video, camera or stream.
        reconnect: seconds for which to retry an interrupted stream; 0 does not retry.
        size_camera: width and height to request from cameras.
        min_person: lowest score of a person. Default: 0.34 for lithe, 0 for others.
        max_people: keep the N people with the highest scores in a frame; 0 keeps all.
        person: main keeps the largest person; in a video, the same one while it is visible. A number keeps the person
            with this id.
        region: x, y, width and height in pixels; people outside are omitted.
        ids_from: COCO json with the image ids by file name, for --format coco.
        overwrite: replace results of an earlier call.
        resume: continue the .jsonl file of an earlier call: skip inputs that have results in it.
        show: show the drawn images in a window, if a display is available. Escape or closing the window ends the call.
        shard: K/N processes the K-th of N equal parts of the inputs; lithepose merge joins the results.
        drawing: how images and videos are drawn.
        motion: angles of joints over the frames of videos; `lithepose angles` measures saved results.
    """
    from ..heads.base import OPENPOSE_DECODER
    from ..heads.pafs import PafHead
    from ..inference.top_down import TopDown
    from ..media.inputs import ADDRESS, shown
    from ..media.sources import ReadConfig
    from ..motion.tracks import Tracks
    from ..tracking.selection import SelectConfig
    from ..writers.images import ImageSink
    from ..writers.results import ResultConfig, check_format, format_of, open_results, read_ids
    from ..writers.resume import finished_sources
    from ..writers.window import Window

    if not sources:
        raise ConfigError("no input: pass an image, video, folder, glob, camera index or stream URL")
    if threshold is not None and not 0 < threshold < 1:
        raise ConfigError(f"threshold {threshold}: must be above 0 and below 1")
    if overwrite and resume:
        raise ConfigError("--overwrite starts again and --resume continues; use only one of them")
    if incremental and boxes:
        raise ConfigError(
            "--incremental reuses maps of the full image, so it cannot be used with --boxes; omit one of them"
        )
    if detect_every < 1:
        raise ConfigError(f"--detect-every {detect_every}: must be 1 or more")
    select = SelectConfig(min_person or 0.0, max_people, person, region)
    read = ReadConfig(start, end, every, reconnect, size_camera)
    if drawing.hide_faces and (person or region or max_people or min_person):
        raise ConfigError(
            "--hide-faces only hides faces of people who are kept; omit --person, --region, --max-people, --min-person"
        )
    part = _part(shard)
    style, measures = drawing.style(), changed(motion)
    if json and not out and not show and (unused := changed(drawing)):
        raise ConfigError(f"{', '.join(unused)}: nothing is drawn with only --json; add --out FOLDER or --show")
    if measures and not (motion.angles or motion.distances):
        raise ConfigError(f"{', '.join(measures)}: nothing to measure; add --angles all or --angles knee,elbow")
    if measures and (resume or shard or str(json) == "-"):
        instead = "--resume" if resume else "--shard" if shard else "--json -"
        raise ConfigError(
            f"{measures[0]}: cannot be used with {instead}; run `lithepose angles poses.jsonl` on the saved results"
        )
    track = track or bool(drawing.trails) or drawing.colour == "id" or bool(measures)
    chosen = format or format_of(json or "-")
    if json is None:
        name = NAMES.get(chosen, chosen)
        if shard:
            name = f"{Path(name).stem}-{part[0]}-of-{part[1]}{Path(name).suffix}"
        out = out or _free_folder(Path("out"), name, overwrite or resume)
        json = out / name
    check_format(json, chosen)
    if resume and chosen != "lithepose":
        raise ConfigError(f"--resume: can only continue lithepose's own .jsonl files, not {chosen}")
    if ids_from and chosen != "coco":
        raise ConfigError(f"--ids-from: only works with --format coco, not with {chosen}")
    ids = read_ids(ids_from) if ids_from else {}

    inputs, failures = _inputs(sources)
    _check_times(chosen, inputs)
    if resume and (other := [i.source for i in inputs if i.kind == "live" or ADDRESS.match(i.source)]):
        raise ConfigError(
            f"--resume: only works with files, not with {shown(other[0])}; omit it and choose another --json"
        )
    keep_sources(json, [*(i.source for i in inputs), boxes, model])
    refuse_existing(json, overwrite or resume, ", --resume to continue it")
    everything, (k, n) = inputs, part
    first = len(inputs) * (k - 1) // n
    inputs = inputs[first : len(inputs) * k // n]
    estimator = _estimator(
        model, boxes, size, flip, inputs, failures, threads=threads, runtime=runtime, device=device, precision=precision
    )
    if decoder and not isinstance(estimator.head, PafHead):
        raise ConfigError(f"--decoder {decoder}: only works with part affinity fields, which {model} does not have")
    estimator = estimator.with_config(
        **(OPENPOSE_DECODER if decoder else {}),
        **({"peak": threshold} if threshold is not None else {}),
        **({"complete": True} if complete else {}),
    )
    if isinstance(estimator, TopDown):
        estimator.detect_every = detect_every
        estimator.person = estimator.person if min_person is None else min_person
    _check_joints(chosen, model, estimator)
    table = (out or json.parent) / "angles.csv"
    if measures:
        _check_twice(inputs)
        check_motion(motion, table, overwrite, estimator.skeleton)
    pipeline = estimator.incremental_pipeline() if incremental else estimator.pipeline()
    images, window = None, Window() if show else None
    if out:  # the folder first: a call that is not possible must not empty an earlier result file
        named = [*(i.source for i in everything if i.kind != "live"), *failures]
        images = ImageSink(out, named, overwrite or resume)
    videos = {i.source for i in inputs if i.kind == "video"}
    done = set(finished_sources(json, videos)) if resume else set[str]()
    if resume:
        count = sum(i.source in done for i in inputs)
        note(f"{json}: contains results for {count} of {len(inputs)} inputs")
    if images:
        for item in everything[:first] + [i for i in inputs if i.source in done]:
            images.reserve(item.source, ".mp4")  # also for an animation, or a file that turned out to be a video
            if item.kind != "video":
                images.reserve(item.source, ".png" if drawing.background == "transparent" else "")
    inputs = [i for i in inputs if i.source not in failures and i.source not in done]
    follow = {"track": track or chosen == "trc", "smooth": smooth}
    results = estimator.run_pipeline(inputs, pipeline, **follow, read=read, select=select)
    style = replace(style, guessed=estimator.guessed)
    config, tracks = ResultConfig(sys.stdout, resume, ids, estimator.skeleton), Tracks()

    def open_file() -> Results:
        file = open_results(json, chosen, config)
        return Kept(file, tracks) if measures else file

    code = write_all(results, inputs, images, open_file, json, failures, style, read, window)
    if measures:
        write_motion(tracks, motion, table)
    return code


def _check_twice(inputs: list[Input]) -> None:
    """Refuse a video that is passed twice: its frames could not be distinguished.

    Raises:
        ConfigError: a video is passed twice.
    """
    sources = [item.source for item in inputs if item.kind != "image"]
    if twice := [source for source in sources if sources.count(source) > 1]:
        raise ConfigError(f"{twice[0]}: passed twice; pass each video once to measure angles over time")


def _check_times(format: str, inputs: list[Input]) -> None:
    """Refuse a video format if all inputs are still images; animations are recognised by content.

    Raises:
        ConfigError: the inputs are still images; the message names formats for them.
    """
    from ..media.animation import frame_count
    from ..media.image import read_file
    from ..media.inputs import ADDRESS

    def still(item: Input) -> bool:
        if item.kind != "image" or ADDRESS.match(item.source):
            return False
        try:
            return Path(item.source).suffix.lower() in (".jpg", ".jpeg") or frame_count(read_file(item.source)) < 2
        except OSError:
            return True  # it fails later, when it is read

    if format == "trc" and all(map(still, inputs)):
        raise ConfigError("--format trc: only works with videos, but the inputs are images; use csv, coco or openpose")


def _inputs(sources: tuple[str, ...]) -> tuple[list[Input], dict[str, str]]:
    """The inputs of the sources, and the sources that do not exist; reports files that were skipped in folders.

    Raises:
        OSError: none of them exists.
    """
    from ..media.inputs import distinct, expand, skipped

    inputs, errors = list["Input"](), dict[str, OSError]()
    for source in sources:
        try:
            inputs += expand([source])
            if left := skipped(source):
                kinds = ", ".join(f"{count} {suffix}" for suffix, count in left.most_common())
                files = counted(left.total(), "file is neither image nor video", "files are neither images nor videos")
                note(f"{source}: {files}: {kinds}")
        except OSError as error:
            errors[source] = error
    if not inputs:
        raise next(iter(errors.values()))
    return distinct(inputs), {source: str(error) for source, error in errors.items()}


def _part(shard: str) -> tuple[int, int]:
    """Number of a part, from 1, and count of parts, from ``K/N``.

    Raises:
        ConfigError: it has another form.
    """
    if not shard:
        return 1, 1
    k, slash, n = shard.partition("/")
    if not (slash and k.isdecimal() and n.isdecimal() and 1 <= int(k) <= int(n)):
        raise ConfigError(f"--shard {shard}: must be K/N, the K-th of N parts, such as 3/16")
    return int(k), int(n)


def _free_folder(folder: Path, name: str, reuse: bool) -> Path:
    """The folder, or a numbered one that has no results with this name."""
    from ..writers.overwrite import numbered

    if reuse:
        return folder
    return next(path for path in map(Path, numbered(str(folder))) if not (path / name).exists())


def _check_joints(format: str, model: str, estimator: Estimator) -> None:
    """Refuse a format that can contain none of the model's joints.

    Raises:
        ConfigError: it can contain none of them; the message names formats that can.
    """
    from ..skeleton import BODY_25, COCO_17, OPENPOSE_18

    written = {"coco": COCO_17, "openpose": OPENPOSE_18, "openpose25": BODY_25}.get(format)
    if written and not set(written.joints) & set(estimator.joints):
        raise ConfigError(f"--format {format}: contains none of {model}'s joints; use lithepose, csv or csv-wide")


def _estimator(
    model: str, boxes: str, size: int, flip: bool, inputs: list[Input], failures: dict[str, str], **engine: Any
) -> Estimator:
    """The model; with ``boxes``, a single-person network on the boxes of a model or a file.

    Inputs without boxes in the file are added to the failures.
    """
    from ..inference.load import load
    from ..inference.models import manifest, open_runtime
    from ..inference.predictor import Predictor
    from ..inference.top_down import TopDown, boxes_of, open_finder, read_boxes

    if not boxes:
        return load(model, size=size, flip=flip, **engine)
    network = open_runtime(model, **engine)
    crops = bool(network.info.crop)  # the size is then that of the finder
    single = Predictor(network, size=0 if crops else size, flip=flip)
    suffix = Path(boxes).suffix.lower()
    if suffix != ".json":
        if Path(boxes).is_file() and boxes not in manifest() and suffix not in (".onnx", ".safetensors", ".xml"):
            raise ConfigError(f"{boxes}: a file of boxes must end with .json")
        return TopDown(single, open_finder(boxes, size=size if crops else 0, **engine))
    given = read_boxes(boxes)
    for source, name in {i.source: i.name for i in inputs if boxes_of(given, i.name) is None}.items():
        failures[source] = f"{name}: no boxes in {boxes}; add a list of boxes for it, empty if there is no person"
    if inputs and all(i.source in failures for i in inputs):
        asked = ", ".join(i.name for i in inputs)
        has = f"boxes for {', '.join(given)}" if given else "no boxes"
        raise ConfigError(f"{boxes}: no boxes for {asked}; the file contains {has}")
    return TopDown(single, boxes=given)
