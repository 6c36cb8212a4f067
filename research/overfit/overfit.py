"""Overfitting on thirty-two images: trains, exports and measures the recipes in this folder.

    python research/overfit/overfit.py binary-paf --data DATA

A second call resumes training, or measures a finished run. Writes the losses to ``NAME.csv`` and one line of results to
``scores.csv`` in ``--out``: loss of the first and of the last twenty steps, and scores on the thirty-two images with
the metrics of ``lithepose evaluate``.
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

from lithepose.data.formats import open_dataset
from lithepose.evaluation.evaluate import evaluate
from lithepose.exporters.onnx import export_weights
from lithepose.inference.predictor import Predictor
from lithepose.runtime.onnx import cores
from lithepose.timing import cpu
from lithepose.training.config import Recipe
from lithepose.training.report import read_log
from lithepose.training.trainer import train

HERE = Path(__file__).parent
COLUMNS: Sequence[str] = "recipe network size steps minutes machine first_loss last_loss pck AUC AP".split()


def main(names: tuple[str, ...], /, data: Path, runs: Path = Path("runs"), out: Path = HERE / "results") -> None:
    """Train, and measure.

    Args:
        names: names of recipes, without suffix.
        data: folder of the recipes' data sets.
        runs: folder for the runs.
        out: folder for the tables.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        recipe = Recipe.read(HERE / "recipes" / f"{name}.toml")
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
        people = {} if predictor.single_person else evaluate(predictor, records, metric="oks").scores
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
        shutil.copyfile(run / "log.csv", out / f"{name}.csv")
        keep(row, out / "scores.csv")
        print(*(f"{k} {v}" for k, v in row.items()), sep="  ")


def keep(row: dict[str, object], path: Path) -> None:
    """Write one line to the table of scores; it replaces an earlier line of the same recipe."""
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
