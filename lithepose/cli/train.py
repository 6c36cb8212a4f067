"""lithepose train"""

from __future__ import annotations

from pathlib import Path

from ..errors import MissingFileError
from ._console import OK, err_console, missing


def train(recipe: Path, /, data: Path = Path("data"), run: Path | None = None, tensorboard: bool = False) -> int:
    """Train a network by a recipe; called again with the same RUN it goes on where that one stopped.

    Args:
        recipe: TOML file, see recipes/.
        data: folder that the recipe's data sets are in.
        run: folder for checkpoints, log and weights. Default: runs/ and the recipe's name.
        tensorboard: write TensorBoard events as well.
    """
    if not recipe.is_file():  # before asking to install torch
        raise MissingFileError(f"{recipe}: no such recipe; those of the project are in recipes/")
    try:
        from ..training.config import Recipe
        from ..training.trainer import train as run_training
    except ImportError as error:
        raise missing("train", "train", error) from error
    folder = run or Path("runs") / recipe.stem
    plan = Recipe.read(recipe)
    try:
        weights = run_training(plan, data, folder, tensorboard=tensorboard)
    except RuntimeError as error:
        if "out of memory" in str(error).lower():
            asked = f"batch = {plan.batch}, size = {plan.size}"
            raise MemoryError(f"{recipe}: {asked} are too much for the memory; lower one of them") from error
        if str(error).startswith("DataLoader worker"):
            cause = "a process that makes samples was killed; is the memory, or /dev/shm, full?"
            raise MemoryError(f"{recipe}: {cause} ({error})") from error
        raise
    err_console.print(f"weights: {weights}", highlight=False)
    return OK
