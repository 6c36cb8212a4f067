"""lithepose cluster"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Literal

from ..errors import ConfigError
from .calls.console import OK, SOME_FAILED, counted, err_console, missing, note

if TYPE_CHECKING:
    from ..cluster import Progress

EVERY = 5.0  # seconds between two lines of progress


def cluster(
    sources: tuple[str, ...],
    /,
    out: str = "",
    address: str = "",
    cpus_per_worker: int = 2,
    workers: int = 0,
    model: str = "lithe",
    size: int = 0,
    runtime: Literal["auto", "onnx", "openvino", "torch"] = "auto",
    precision: Literal["", "fp32", "bf16", "int8"] = "",
    threshold: float | None = None,
    min_person: float | None = None,
    detect_every: int = 5,
    track: bool = True,
    block: int = 500,
    segment: float = 20.0,
    column: str = "",
    retry_failed: bool = False,
) -> int:
    """Find people in any number of images and videos, on one or many machines, with Ray.

    Rows are written to OUT/poses/part=*/*.parquet, and inputs that could not be read are listed in
    OUT/failed/part=*/*.jsonl. A repeated call processes only what is missing. See docs/scaling.md.

    Examples:
        lithepose cluster folder --out out
        lithepose cluster "shards/*.tar" --out s3://bucket/out --address auto
        lithepose cluster addresses.txt --out out --cpus-per-worker 4

    Args:
        sources: folders, patterns, images, videos, tar files of images (WebDataset), Parquet files with encoded images,
            or .txt lists of files; paths that all machines can read, or addresses such as s3://bucket/folder/.
        out: folder or address for the results.
        address: address of a Ray cluster; auto uses the cluster of this machine. Default: start Ray on this machine.
        cpus_per_worker: CPUs per worker; each worker loads one model.
        workers: maximum number of workers. Default: as many as fit on the machines, including those that join later.
        model: name of an embedded model, or an .onnx or packed .safetensors file.
        size: longer side of the input (for lithe, of the person detector); 0 is the model's own.
        runtime: runtime of the network, as in predict.
        precision: fp32, bf16 (OpenVINO) or int8. Default: the file's own.
        threshold: lowest score of a joint, above 0 and below 1. Default: the model's own.
        min_person: lowest score of a person. Default: the model's own.
        detect_every: in a video, run the person detector at least every N frames.
        track: assign ids to the people in videos.
        block: images per task; each task writes one file of rows.
        segment: minimum seconds of video per task.
        column: column of Parquet files with the images. Default: the first column of bytes.
        retry_failed: process tasks with failed inputs again.
    """
    try:
        from ..cluster import Machines, Options, predict
    except ImportError as error:
        raise missing("cluster", "cluster", error) from error
    if not out:
        raise ConfigError("--out: required; pass a folder or address for the results")
    options = Options(
        model=model,
        size=size,
        runtime=runtime,
        precision=precision,
        threshold=threshold,
        min_person=min_person,
        detect_every=detect_every,
        track=track,
        block=block,
        segment=segment,
        column=column,
    )
    machines = Machines(address, cpus_per_worker, workers, retry_failed)
    done = predict(sources, out, options, machines, Lines())
    if done.failed:
        inputs = counted(done.failed, "input", "inputs")
        err_console.print(f"{inputs} failed, see {out}/failed", style="red", markup=False, highlight=False)
    there = f", {counted(done.before, 'file', 'files')} already existed" if done.before else ""
    note(
        f"{counted(done.frames, 'frame', 'frames')}, {counted(done.people, 'person', 'people')}, {done.failed} failed,"
        f" {done.seconds:.1f} s -> {counted(done.files, 'file', 'files')} of rows in {out}{there}"
    )
    return SOME_FAILED if done.failed else OK


class Lines:
    """Prints progress, a line every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY

    def __call__(self, at: Progress) -> None:
        """Print a line, if enough time has passed."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        rate = at.frames / max(at.seconds, 1e-9)
        failed = f", {at.failed} failed" if at.failed else ""
        workers = counted(at.workers, "worker", "workers")
        note(f"{at.done} of {at.total} files, {at.frames} frames, {rate:.1f} a second, {workers}{failed}")
