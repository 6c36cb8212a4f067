"""Files of a run: checkpoints, log, lock and the final weights."""

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
    """Write a new file, then replace the old one, so that an interrupted save leaves a complete checkpoint."""
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
    """Restore the state saved by :func:`save_checkpoint`.

    Returns:
        the number of the next step.

    Raises:
        ModelError: the file is damaged, or belongs to a network with other options.
    """
    try:
        saved = torch.load(path, map_location=device, weights_only=True)
        net.load_state_dict(saved["net"])
        for group, own in zip(saved["optimizer"]["param_groups"], optimizer.param_groups, strict=True):
            group |= {
                key: own[key] for key in ("fused", "foreach") if key in own
            }  # of this machine, not of the earlier one
        optimizer.load_state_dict(saved["optimizer"])
        average.state = {name: saved["average"][name] for name in average.state}
        schedule.state = dict(saved["schedule"])
        return int(saved["step"])
    except Exception as error:  # torch raises many types of exception for a damaged file
        raise ModelError(
            f"{path}: damaged, or from a different network; remove it or choose another run ({error})"
        ) from error


def cut_log(path: Path, steps: int) -> None:
    """Drop the lines of steps after the checkpoint, because these steps run again."""
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= steps]
        path.write_text("".join(kept), encoding="utf-8")


@contextlib.contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold a file's lock. The system releases it even when the process is killed.

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
                raise OutputError(
                    f"{path}: cannot be locked ({error.strerror}); choose a run on another disk"
                ) from error
            raise BlockingIOError(f"{path.parent}: another process is training this run; choose another run") from error
        yield


def save_weights(path: Path, average: Average, info: ModelInfo | None = None, options: dict | None = None) -> None:
    """Save the averaged weights as fp16 safetensors; the metadata describes how to build their network.

    Raises:
        TrainingError: a value is not finite, or is beyond fp16's range.
    """
    beside = path.with_suffix(".tmp")
    halves = {k: v.half().contiguous() for k, v in average.state.items()}
    bad = [k for k, v in halves.items() if not v.isfinite().all()]
    if bad:
        raise TrainingError(
            f"{path}: {bad[0]} contains values that fp16 cannot represent; the checkpoint is kept in the same folder"
        )
    # One entry, because several entries have no fixed order and the same run must give the same bytes.
    stored = {"info": json.loads(info.to_json()), "options": options or {}} if info else None
    metadata = {"lithepose": json.dumps(stored)} if stored else None
    save_file(halves, beside, metadata)
    os.replace(beside, path)
