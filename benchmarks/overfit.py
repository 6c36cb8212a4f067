"""Thirty-two images by heart: trains, exports and measures by the recipes in ``recipes/overfit``.

    python benchmarks/overfit.py binary-paf --data DATA

Called again it goes on where it stopped, or measures what is there. Writes the losses to
``results/overfit/<name>.csv`` and one line of figures to ``results/overfit/scores.csv``: loss of the first and of the
last twenty steps, and the scores on the thirty-two images by ``lithepose evaluate``'s metrics.
"""

from __future__ import annotations

import csv
import logging
import shutil
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import tyro
from machine import cpu

from lithepose.data.formats import open_dataset
from lithepose.evaluation.evaluate import evaluate
from lithepose.export.onnx import export_weights
from lithepose.inference.predictor import Predictor
from lithepose.runtime.onnx import cores
from lithepose.training.config import Recipe
from lithepose.training.report import read_log
from lithepose.training.trainer import train

ROOT = Path(__file__).parent.parent
OUT = ROOT / "results" / "overfit"
COLUMNS: Sequence[str] = "recipe network size steps minutes machine first_loss last_loss pck AUC AP".split()


def main(names: tuple[str, ...], /, data: Path, runs: Path = ROOT / "runs") -> None:
    """Train and measure.

    Args:
        names: of recipes, without suffix.
        data: folder that the recipes' data sets are in.
        runs: folder for the runs.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    OUT.mkdir(parents=True, exist_ok=True)
    for name in names:
        recipe = Recipe.read(ROOT / "recipes" / "overfit" / f"{name}.toml")
        run = runs / f"overfit-{name}"
        weights = train(recipe, data, run)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            export_weights(weights, run / "weights.onnx")
        source = recipe.data[0]
        records = open_dataset(data / source.data, source.split, tuple(data / i for i in source.images))
        records = replace(records, records=records.records[: source.first])
        predictor = Predictor(run / "weights.onnx")
        joints = evaluate(predictor, records, metric="pck").scores
        people = {} if predictor.one_person else evaluate(predictor, records, metric="oks").scores
        log = read_log(run)
        row = {
            "recipe": name,
            "network": recipe.network,
            "size": recipe.size,
            "steps": recipe.steps,
            "minutes": f"{sum(line['seconds'] for line in log if 'seconds' in line) / 60:.1f}",
            "machine": f"{cpu()}, {cores()} cores",
            "first_loss": f"{log[0]['total']:.5f}",
            "last_loss": f"{log[-1]['total']:.5f}",
            "pck": f"{joints['PCK@0.2']:.4f}",
            "AUC": f"{joints['AUC']:.4f}",
            "AP": f"{people['AP']:.4f}" if people else "",
        }
        shutil.copyfile(run / "log.csv", OUT / f"{name}.csv")
        keep(row)
        print(*(f"{k} {v}" for k, v in row.items()), sep="  ")


def keep(row: dict[str, object]) -> None:
    """Put one line into the table of scores, in the place of an earlier one of the same recipe."""
    path = OUT / "scores.csv"
    rows: list[dict[str, object]] = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as file:
            rows = [dict(old) for old in csv.DictReader(file) if old["recipe"] != row["recipe"]]
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer: csv.DictWriter[str] = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*rows, row], key=lambda r: str(r["recipe"])))


if __name__ == "__main__":
    tyro.cli(main)
