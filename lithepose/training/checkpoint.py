"""What a run keeps: checkpoints, its log, its lock, the weights at the end."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from ..errors import ModelError, OutputError, TrainingError
from ..runtime.base import ModelInfo
from .optim import Average, Schedule


def save_checkpoint(
    path: Path, net: nn.Module, optimizer: torch.optim.Optimizer, average: Average, schedule: Schedule, step: int
) -> None:
    """Write beside, then replace: a kill at any moment leaves one whole checkpoint."""
    beside = path.with_suffix(".tmp")
    state = {"net": net.state_dict(), "optimizer": optimizer.state_dict(), "average": average.state, "step": step}
    torch.save(state | {"schedule": schedule.state}, beside)
    os.replace(beside, path)


def load_checkpoint(
    path: Path,
    net: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: Average,
    schedule: Schedule,
    device: torch.device,
) -> int:
    """Go back to where :func:`save_checkpoint` was called.

    Returns:
        the number of the next step.

    Raises:
        ModelError: the file is damaged, or of a network with other options.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
        for group, own in zip(saved["optimizer"]["param_groups"], optimizer.param_groups, strict=True):
            group |= {
                key: own[key] for key in ("fused", "foreach") if key in own
            }  # of this machine, not of the one before
        optimizer.load_state_dict(saved["optimizer"])
        average.state = {name: saved["average"][name] for name in average.state}
        schedule.state = dict(saved["schedule"])
        return int(saved["step"])
    except Exception as error:  # torch raises a dozen types for a damaged file
        raise ModelError(f"{path}: damaged, or of another network; remove it or name another run ({error})") from error


def cut_log(path: Path, steps: int) -> None:
    """Drop the lines of steps after the checkpoint, which are about to be done again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= steps]
        path.write_text("".join(kept), encoding="utf-8")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file's lock, which the system lets go of however the process ends.

    Raises:
        BlockingIOError: another process holds it.
    """
    with open(path, "a+b") as file:
        try:
            if sys.platform == "win32":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN, errno.EDEADLK):
                raise OutputError(f"{path}: cannot be locked ({error.strerror}); name a run on another disk") from error
            raise BlockingIOError(f"{path.parent}: another process trains here; name another run") from error
        yield


def save_weights(path: Path, average: Average, info: ModelInfo | None = None, options: dict | None = None) -> None:
    """Averaged weights as fp16 safetensors, with what is needed to build their network again in the metadata.

    Raises:
        TrainingError: a value is no number, or beyond fp16's range.
    """
    beside = path.with_suffix(".tmp")
    halves = {k: v.half().contiguous() for k, v in average.state.items()}
    bad = [k for k, v in halves.items() if not v.isfinite().all()]
    if bad:
        raise TrainingError(f"{path}: {bad[0]} holds values that fp16 cannot; the checkpoint is kept beside it")
    # One entry: several are written in no fixed order, and the same run must give the same bytes.
    stored = {"info": json.loads(info.to_json()), "options": options or {}} if info else None
    metadata = {"lithepose": json.dumps(stored)} if stored else None
    save_file(halves, beside, metadata)
    os.replace(beside, path)
