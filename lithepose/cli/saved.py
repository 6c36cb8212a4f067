"""Commands for saved results: lithepose merge, draw, angles"""

from __future__ import annotations

from collections import Counter
from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigError
from .calls.console import OK, counted, note
from .calls.files import check_output, keep_inputs, refuse_existing
from .calls.motion import check_motion, write_motion
from .calls.options import DrawOptions, MotionOptions

if TYPE_CHECKING:
    from ..inference.estimator import Pending
    from ..media.inputs import Input
    from ..media.sources import Failed, Frame, ReadConfig
    from ..poses import Poses
    from ..skeleton import Skeleton
    from ..writers.results import Place
    from ..writers.resume import SavedFrame

LATEST = 0.01  # seconds that a frame may differ from its saved time


def merge(
    results: tuple[Path, ...],
    /,
    out: Path,
    format: Literal["lithepose", "coco", "openpose", "openpose25", "csv", "csv-wide", "parquet", "trc"] | None = None,
    ids_from: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Join results of `lithepose predict` and `lithepose cluster`, or convert them to another format.

    Rows keep the order of the files. If two files contain the same frame, the first one is used.

    Examples:
        lithepose merge out/poses-*.jsonl --out all.jsonl
        lithepose merge poses.jsonl --out poses.csv
        lithepose merge poses.jsonl --out folder --format openpose

    Args:
        results: .jsonl or .json files in lithepose's own format, .parquet files, and folders of `lithepose cluster`.
        out: file for the joined results; for openpose, openpose25 and trc a folder.
        format: format of that file. Default: set by its suffix.
        ids_from: COCO json with the image ids by file name, for --format coco.
        overwrite: replace OUT if it exists.
    """
    from ..skeleton import COCO_17
    from ..writers.results import FOLDERS, ResultConfig, abandon, check_format, format_of, open_results, read_ids
    from ..writers.resume import merged, own_skeletons, read_results

    if not results:
        raise ConfigError("no results given; pass the .jsonl files to join")
    chosen = format or format_of(out)
    check_format(out, chosen)
    refuse_existing(out, overwrite)
    if chosen not in FOLDERS:
        check_output(out, "--out")
        keep_inputs(out, "--out", results)
    # Read every file once before anything is written: a damaged file must not destroy an earlier result.
    skeletons, videos = set["Skeleton"](), 0
    own = own_skeletons(path for path in results if path.is_file())
    for path in results:
        for frame, poses in read_results(path, own):
            skeletons.add(poses.skeleton)
            videos += frame.index is not None
    if len(skeletons) > 1:
        names = ", ".join(sorted(skeleton.name for skeleton in skeletons))
        raise ConfigError(f"the results have different joints ({names}); only join results of one model")
    if chosen == "trc" and not videos:
        raise ConfigError("--format trc: only works with videos, but the results are for images; use csv or coco")
    config = ResultConfig(ids=read_ids(ids_from) if ids_from else {}, skeleton=next(iter(skeletons), COCO_17))
    file, frames, people = open_results(out, chosen, config), 0, 0
    try:
        for frame, poses in merged(results):
            file.write(frame, poses)
            frames, people = frames + 1, people + len(poses)
    except BaseException:
        abandon(file)
        raise
    file.close()
    note(f"{counted(frames, 'frame', 'frames')}, {counted(people, 'person', 'people')} -> {out}")
    return OK


def angles(
    results: tuple[Path, ...],
    /,
    out: Path | None = None,
    overwrite: bool = False,
    motion: MotionOptions = MotionOptions(angles="all"),  # noqa: B008
) -> int:
    """Measure angles of joints and segments over time in saved results of `lithepose predict`.

    Angles are signed and in the image plane; docs/motion.md defines them. People in a video without ids are tracked
    first, as with --track.

    Examples:
        lithepose angles out/poses.jsonl --plot angles.png
        lithepose angles poses.jsonl --angles knee,hip --fill 0.2 --lowpass 6
        lithepose angles poses.jsonl --distances ankles,left_wrist-nose

    Args:
        results: .jsonl or .json files in lithepose's own format.
        out: .csv file for the angles. Default: angles.csv next to the first file.
        overwrite: replace files of an earlier call.
        motion: all angles are measured unless --angles is set.
    """
    from ..motion.tracks import Tracks
    from ..writers.resume import own_skeletons, read_results

    if not results:
        raise ConfigError("no results given; pass the poses.jsonl of an earlier call")
    table = out or results[0].with_name("angles.csv")
    tracks, own = Tracks(), own_skeletons(path for path in results if path.is_file())
    for path in results:
        for frame, poses in read_results(path, own):
            tracks.add(frame, poses)
    check_motion(motion, table, overwrite, tracks.skeleton)
    write_motion(tracks, motion, table)
    return OK


def draw(
    results: Path,
    sources: tuple[str, ...],
    /,
    out: Path | None = None,
    model: str = "",
    start: float = 0.0,
    end: float = 0.0,
    overwrite: bool = False,
    drawing: DrawOptions = DrawOptions(),  # noqa: B008
) -> int:
    """Draw saved results of `lithepose predict` again, on their images and videos, without running the network.

    Frames without results are skipped. It is an error if images and results differ in size.

    Examples:
        lithepose draw out/poses.jsonl
        lithepose draw out/poses.jsonl clip.mp4 --colour id --trails 1 --out trails
        lithepose draw poses.jsonl folder --background transparent --out skeletons

    Args:
        results: .jsonl or .json file in lithepose's own format.
        sources: images, videos or folders of the results. Default: the files named in the results.
        out: folder for drawn images and videos. Default: ./drawn, or ./drawn-2 and so on.
        model: model that made the results. It defines the lines between the joints of your own skeleton, and which
            joints are guesses, which are drawn hollow.
        start: seconds of a video that were skipped by the call that made the results.
        end: second at which to stop reading a video; 0 reads to its end.
        overwrite: replace drawn files of an earlier call.
        drawing: how images and videos are drawn.
    """
    from ..inference.load import load
    from ..media.inputs import expand
    from ..media.sources import ReadConfig
    from ..writers.images import ImageSink
    from ..writers.overwrite import numbered
    from ..writers.resume import read_results
    from .calls.writing import write_all

    style = drawing.style()
    estimator = load(model) if model else None
    skeleton = estimator.skeleton if estimator else None
    style = replace(style, guessed=estimator.guessed) if estimator else style
    saved = {(frame.source, frame.index): (frame, poses) for frame, poses in read_results(results, skeleton)}
    if not saved:
        raise ConfigError(f"{results}: contains no results to draw")
    if drawing.trails and not any(poses.id is not None for _, poses in saved.values()):
        raise ConfigError(f"--trails: {results} contains no ids; run lithepose predict with --track first")
    inputs = expand(list(sources or dict.fromkeys(source for source, _ in saved)))
    read = ReadConfig(start, end)
    if out is None:
        out = Path("drawn") if overwrite else next(p for p in map(Path, numbered("drawn")) if not p.exists())
    images = ImageSink(out, [results, *(item.source for item in inputs)], overwrite)
    frames = _drawn(inputs, read, saved, results)
    return write_all(frames, inputs, images, _Nothing, Path("-"), {}, style, read)


class _Nothing:
    """A results file that writes nothing, for a call that only draws."""

    def write(self, frame: Place, poses: Poses) -> None:
        """Do nothing: the results are saved already."""

    def close(self) -> None:
        """Do nothing."""


Saved = dict[tuple[str, int | None], tuple["SavedFrame", "Poses"]]


def _drawn(
    inputs: list[Input], read: ReadConfig, saved: Saved, results: Path
) -> Generator[Pending | Failed, None, None]:
    """The frames that have results, with the results; inputs that do not match the results fail."""
    from ..inference.estimator import Pending
    from ..media.sources import Failed, frames

    if read.end:  # results after the end are not a mismatch
        saved = {key: value for key, value in saved.items() if (value[0].time or 0.0) < read.end}
    counts = Counter(source for source, _ in saved)
    names = _names([item.name for item in inputs], set(counts))
    for item in inputs:
        drawn, source = 0, names[item.name]
        count = counts[source]
        for frame in frames([item], read):
            if isinstance(frame, Failed):
                yield frame
                break
            place, poses = saved.get((source, frame.index), (None, None))
            if place is None or poses is None:
                continue
            if error := _misfit(frame, place, poses, results):
                yield Failed(frame.source, ConfigError(error))
                break
            drawn += 1
            yield Pending(frame, lambda poses=poses: poses)
        else:
            if drawn < count or not drawn:
                what = f"{counted(count, 'result', 'results')} for it, but {drawn} matching frames were found"
                why = (
                    f"{results} contains {what}" if count else f"no results in {results}; pass the files it belongs to"
                )
                yield Failed(item.name, ConfigError(f"{item.name}: {why}"))


def _names(sources: list[str], saved: set[str]) -> dict[str, str]:
    """The name of each source in the results: its path, or its file name if only one result has that name."""
    short: dict[str, list[str]] = {}
    for name in saved:
        short.setdefault(Path(name).name, []).append(name)
    found = dict[str, str]()
    for source in sources:
        same = short.get(Path(source).name, [])
        found[source] = source if source in saved or len(same) != 1 else same[0]
    return found


def _misfit(frame: Frame, place: SavedFrame, poses: Poses, results: Path) -> str:
    """Why saved results do not match a frame; empty if they may match."""
    size = frame.image.shape[1], frame.image.shape[0]
    if size != poses.size:
        return (
            f"{frame.name}: has size {size[0]}x{size[1]}, but the results in {results} are for"
            f" {poses.size[0]}x{poses.size[1]}"
        )
    if frame.time is not None and place.time is not None and abs(frame.time - place.time) > LATEST:
        difference = f"is at {frame.time:.3f} s, but the results in {results} are at {place.time:.3f} s"
        return f"{frame.name}: {difference}; pass the --start that they were made with"
    return ""
