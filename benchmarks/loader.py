"""Images per second of the loader, of the network, and of training with both.

    python benchmarks/loader.py --data DATA --out results/loader-CPU.csv [--recipe recipes/lithe-paf.toml]

The three are measured in turn, several times, and their medians are printed and written to ``--out``. The loader has
one process and the network all cores, as in training. When measured alone, each has the whole machine.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import torch
import tyro

from lithepose.timing import write_table
from lithepose.training.config import Recipe
from lithepose.training.distributed import World
from lithepose.training.trainer import Trainer

ROOT = Path(__file__).parent.parent


def main(
    data: Path, out: Path, recipe: Path = ROOT / "recipes" / "lithe-paf.toml", rounds: int = 5, steps: int = 6
) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
        data: folder of the recipe's data sets.
        recipe: recipe of the loader and the network.
        rounds: rounds of all three measurements.
        steps: steps of a measurement.
    """
    plan = Recipe.read(recipe)
    rates: dict[str, list[float]] = {"loader": [], "network": [], "both": []}
    with World() as world, tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(plan, data, Path(folder), world)
        called = trainer.wake(0)
        number = iter(range(0, 10**9, plan.batch))

        def batches(count: int):
            first = next(number)
            for _ in range(count - 1):
                next(number)
            return trainer.batches(trainer.samples, first, first + count * plan.batch, plan.batch)

        held = next(iter(batches(1)))
        for _ in range(2):
            trainer.step(called, held, 0)
        for _ in range(rounds):
            for kind in rates:
                source = iter(batches(steps + 1)) if kind != "network" else iter([held] * (steps + 1))
                batch = next(source)  # so that the process has started
                if kind != "loader":
                    trainer.step(called, batch, 0)
                began = time.perf_counter()
                for batch in source:
                    if kind != "loader":
                        trainer.step(called, batch, 0)
                rates[kind].append(steps * plan.batch / (time.perf_counter() - began))
    medians = {kind: statistics.median(values) for kind, values in rates.items()}
    rows = [
        {
            "recipe": recipe.name,
            "size": plan.size,
            "threads": torch.get_num_threads(),
            "measured": kind,
            "photos_a_second": f"{medians[kind]:.1f}",
            "lowest": f"{min(rates[kind]):.1f}",
            "highest": f"{max(rates[kind]):.1f}",
            "over_network": f"{medians[kind] / medians['network']:.2f}",
        }
        for kind in rates
    ]
    write_table(out, rows)
    for row in rows:
        print(*row.values(), sep="  ")
    print(out)


if __name__ == "__main__":
    tyro.cli(main)
