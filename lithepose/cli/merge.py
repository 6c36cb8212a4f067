"""lithepose merge"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ._console import OK, counted, err_console
from ._files import check_output, keep_inputs, refuse_existing


def merge(
    results: tuple[Path, ...],
    /,
    out: Path,
    format: Literal["lithepose", "coco", "openpose", "openpose25", "csv", "csv-wide", "parquet", "trc"] | None = None,
    ids_from: Path | None = None,
    overwrite: bool = False,
) -> int:
    """Join result files of `lithepose predict`, as of its --shard, or turn one into another format.

    Rows come in the order of the files; of a frame that two of them have, the first is taken.

    Args:
        results: .jsonl or .json files of lithepose's own format.
        out: file for the joined results; for openpose, openpose25 and trc a folder.
        format: of that file. Default: by its suffix.
        ids_from: COCO json that gives image ids by file name, for --format coco.
        overwrite: replace OUT if it exists.
    """
    from ..errors import ConfigError
    from ..skeleton import COCO_17
    from ..writers.results import FOLDERS, ResultConfig, check_format, format_of, open_results, read_ids
    from ..writers.resume import merged, read_results

    if not results:
        raise ConfigError("no results: name the .jsonl files to join")
    chosen = format or format_of(out)
    check_format(out, chosen)
    refuse_existing(out, overwrite)
    if chosen not in FOLDERS:
        check_output(out, "--out")
        keep_inputs(out, "--out", results)
    # Every file is read once before anything is written: a damaged one must not cost an earlier result.
    skeletons = {poses.skeleton for path in results for _, poses in read_results(path)}
    if len(skeletons) > 1:
        names = ", ".join(sorted(skeleton.name for skeleton in skeletons))
        raise ConfigError(f"the results have different joints ({names}); join those of one model")
    config = ResultConfig(ids=read_ids(ids_from) if ids_from else {}, skeleton=next(iter(skeletons), COCO_17))
    file, frames, people = open_results(out, chosen, config), 0, 0
    try:
        for frame, poses in merged(results):
            file.write(frame, poses)
            frames, people = frames + 1, people + len(poses)
    finally:
        file.close()
    done = f"{counted(frames, 'frame', 'frames')}, {counted(people, 'person', 'people')}"
    err_console.print(f"{done} -> {out}", markup=False, highlight=False)
    return OK
