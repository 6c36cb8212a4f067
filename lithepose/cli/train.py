"""lithepose train"""

from __future__ import annotations

import shlex
from pathlib import Path

from ..errors import MissingFileError
from .calls.console import OK, missing, note, tells
from .calls.stopping import Stopping


def train(recipe: Path, /, data: Path = Path("data"), run: Path | None = None, tensorboard: bool = False) -> int:
    """Train a network from a recipe. A repeated call with the same RUN continues where the earlier one stopped.

    Ctrl-C, SIGTERM and SIGHUP save the current step, end the training within seconds and print how to continue.

    Examples:
        lithepose train recipes/lithe.toml --data data
        lithepose train mine.toml --data folder --run runs/second
        torchrun --nproc-per-node 2 -m -- lithepose train mine.toml

    Args:
        recipe: TOML file, see recipes/.
        data: folder with the recipe's data sets.
        run: folder for checkpoints, log and weights. Default: runs/ and the recipe's name.
        tensorboard: also write TensorBoard events.
    """
    if not recipe.is_file():  # before asking to install torch
        raise MissingFileError(f"{recipe}: no such recipe; the project's recipes are in recipes/")
    from ..training.config import Recipe

    folder, plan = run or Path("runs") / recipe.stem, Recipe.read(recipe)
    again = ["lithepose", "train", str(recipe), "--data", str(data), "--run", str(folder)]
    again += ["--tensorboard"] if tensorboard else []
    with Stopping(shlex.join(again), plan.steps, str(folder)) as stopping:
        try:
            from ..training.trainer import Position
            from ..training.trainer import train as run_training
        except ImportError as error:
            raise missing("train", "train", error) from error

        stopping.position = position = Position()
        try:
            weights = run_training(plan, data, folder, tensorboard=tensorboard, position=position, quiet=not tells())
        except RuntimeError as error:
            if "out of memory" in str(error).lower():
                asked = f"batch = {plan.batch}, size = {plan.size}"
                raise MemoryError(f"{recipe}: out of memory with {asked}; lower one of them") from error
            if str(error).startswith("DataLoader worker"):
                cause = "a data loading process was killed; check that memory and /dev/shm are not full"
                raise MemoryError(f"{recipe}: {cause} ({error})") from error
            raise
    note(f"weights: {weights}")
    return OK
