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
    """Find people in any number of images and videos, on one machine or many, by Ray.

    Rows go to OUT/poses/part=*/*.parquet, inputs that could not be read to OUT/failed/part=*/*.jsonl. The same call
    again does what is missing. docs/scaling.md has more.

    Examples:
        lithepose cluster folder --out out
        lithepose cluster "shards/*.tar" --out s3://bucket/out --address auto
        lithepose cluster addresses.txt --out out --cpus-per-worker 4

    Args:
        sources: folders, patterns, images, videos, tar files of images (WebDataset), Parquet files with encoded images,
            or .txt lists of files; paths that all machines see, or addresses as s3://bucket/folder/.
        out: folder or address for the results.
        address: of a Ray cluster, auto for the one that this machine is of. Default: Ray is started on this machine.
        cpus_per_worker: of each worker, which holds one model.
        workers: most of them. Default: as many as the machines hold, also those that join later.
        model: name of an embedded model, or an .onnx or packed .safetensors file.
        size: longer side of the input, of the person detector for lithe; 0 is the model's own.
        runtime: what runs the network, as of predict.
        precision: fp32, bf16 (OpenVINO) or int8. Default: the file's own.
        threshold: lowest score of a joint, above 0 and below 1. Default: the model's own.
        min_person: lowest score of a person. Default: the model's own.
        detect_every: in a video, run the person detector at least every so many frames.
        track: the ids of the people of videos.
        block: single images of one task, which is one file of rows.
        segment: seconds of one task of a video, at least.
        column: of Parquet files, the one with the images. Default: the first that holds bytes.
        retry_failed: do the files of rows again that have failed inputs.
    """
    try:
        from ..cluster import Machines, Options, predict
    except ImportError as error:
        raise missing("cluster", "cluster", error) from error
    if not out:
        raise ConfigError("--out: name a folder or address for the results")
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
    there = f", {counted(done.before, 'file', 'files')} there before" if done.before else ""
    note(
        f"{counted(done.frames, 'frame', 'frames')}, {counted(done.people, 'person', 'people')}, {done.failed} failed,"
        f" {done.seconds:.1f} s -> {counted(done.files, 'file', 'files')} of rows in {out}{there}"
    )
    return SOME_FAILED if done.failed else OK


class Lines:
    """Progress as a line every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + EVERY

    def __call__(self, at: Progress) -> None:
        """Print it, if it is time."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + EVERY
        rate = at.frames / max(at.seconds, 1e-9)
        failed = f", {at.failed} failed" if at.failed else ""
        workers = counted(at.workers, "worker", "workers")
        note(f"{at.done} of {at.total} files, {at.frames} frames, {rate:.1f} a second, {workers}{failed}")
