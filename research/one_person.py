"""Comparison of variants of context_cpm and split_stream (osokin2019context, debnath2018split), trained alike.

    for NAME in context-cpm-none context-cpm-pyramid context-cpm-aspp context-cpm; do
        lithepose train research/osokin2019context/recipes/$NAME-mini.toml --data DATA
    done
    python research/one_person.py context-cpm --data DATA --out research/osokin2019context/results/context-cpm.csv

and likewise ``split-stream`` and ``context-cpm-stage`` (only second stages, all after the same first stage).
``COMPARISONS`` below lists all runs; missing ones are skipped. Each variant has a row with: PCK@0.2 of the torso, as
measured by ``lithepose evaluate``; the mean squared error of joint positions, relative to the side of the input, on the
first images of the training set and on all validation images (debnath2018split's table 3 has such a pair, without a
unit); and the network's time with one and two threads, in turn. If stages are compared, the loss is that of the last
one. Only people with as many labelled joints as the recipe requires count. Writes the table to ``--out``, and plots of
the losses and of the share of correct joints over the threshold (as in debnath2018split, figure 5).
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.progress import track

from lithepose.analysis.complexity import measure
from lithepose.analysis.plot import lines
from lithepose.data.coco import KeypointSet
from lithepose.data.formats import open_dataset
from lithepose.evaluation.evaluate import Evaluation, evaluate
from lithepose.exporters.onnx import export_weights, open_weights
from lithepose.inference.predictor import Predictor
from lithepose.networks import build
from lithepose.reproduce.trained import error_of
from lithepose.timing import cpu, median, take_turns, write_table
from lithepose.training.checkpoint import save_weights
from lithepose.training.optim import Average
from lithepose.training.report import plot_losses, read_log

ROOT = Path(__file__).parent.parent
WEIGHTS = ROOT / "lithepose" / "weights"
FIGURES = ROOT / "docs" / "images"
IMAGES = "lspet-1.tar", "lspet-2.tar"
FIRST = 495  # number of training images, the same as of validation
COLUMNS = "PCK@0.2", "AUC", "head", "shoulders", "elbows", "wrists", "hips", "knees", "ankles"


@dataclass(frozen=True)
class Comparison:
    """Variants of a network, and the data for their evaluation.

    Attributes:
        runs: folder of a run by variant, the paper's own variant last.
        train: annotations and split, in the data folder; none if training images are not measured.
        validation: likewise.
        crop: argument of :func:`lithepose.evaluation.evaluate.evaluate`.
        min_joints: likewise.
        cuts: variants that are another network's first stages: its weights (embedded, or of a run), and the number of
            stages.
    """

    runs: dict[str, str]
    train: tuple[str, str] | None
    validation: tuple[str, str]
    crop: str
    min_joints: int
    cuts: dict[str, tuple[str, int]] = field(default_factory=dict)


COMPARISONS = {
    "context-cpm": Comparison(
        {
            "no context": "context-cpm-none-mini",
            "pyramid": "context-cpm-pyramid-mini",
            "ASPP": "context-cpm-aspp-mini",
            "U-shaped, unmasked": "context-cpm-unmasked-mini",
            "U-shaped, 6 stages": "context-cpm-six-mini",
            "U-shaped": "context-cpm-mini",
        },
        ("lspet-1.tar", "train"),
        ("lspet-1.tar", "val"),
        "auto",
        1,
    ),
    "context-cpm-stage": Comparison(
        {
            "no context": "context-cpm-stage-none",
            "pyramid": "context-cpm-stage-pyramid",
            "ASPP": "context-cpm-stage-aspp",
            "U-shaped": "context-cpm-stage",
            "U-shaped, 6 stages": "context-cpm-stage-six",
        },
        None,
        ("lspet-1.tar", "val"),
        "auto",
        1,
        {
            "first stage alone": ("embedded:context_cpm", 1),
            "6 stages, output of the 2nd": ("context-cpm-stage-six", 2),
            "6 stages, output of the 4th": ("context-cpm-stage-six", 4),
        },
    ),
    "split-stream": Comparison(
        {
            "regression": "joint-regression-mini",
            "regression without pooling": "joint-regression-no-pooling-mini",
            "split regression": "split-regression-mini",
            "split streams": "split-stream-mini",
        },
        ("lspet-people-train.json.gz", "train"),
        ("lspet-people-val.json.gz", "val"),
        "joints",
        10,
    ),
}


def main(
    name: Literal["context-cpm", "context-cpm-stage", "split-stream"],
    /,
    data: Path,
    out: Path,
    runs: Path = ROOT / "runs",
    images: Path = FIGURES,
) -> None:
    """Measure all trained variants.

    Args:
        name: name of the comparison.
        data: folder with ``data/lspet-1.tar`` and the other data sets.
        runs: folder of the runs.
        out: table to write.
        images: folder of the images.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    compared = COMPARISONS[name]
    models = {form: runs / run / "weights.onnx" for form, run in compared.runs.items()}
    models = {form: path for form, path in models.items() if path.with_name("weights.safetensors").exists()}
    if not models:
        raise SystemExit(f"{runs}: contains none of {', '.join(compared.runs.values())}; train them first")
    train, validation = (_open(data, *where) if where else None for where in (compared.train, compared.validation))
    assert validation
    rows, curves = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for form, (whole, stages) in compared.cuts.items():
            name_of, embedded = whole.removeprefix("embedded:"), whole.startswith("embedded:")
            weights = WEIGHTS / f"{name_of}.safetensors" if embedded else runs / whole / "weights.safetensors"
            if weights.exists():
                models[form] = _cut(weights, stages, Path(folder) / str(len(models)))
        for form, path in track(models.items()):
            _export(path)
            rows[form], curves[form] = _row(form, path, compared, train, validation)
        _time(models, rows)
    table = [row | {"cpu": cpu()} for row in rows.values()]
    write_table(out, table)
    logs = {form: log for form, path in models.items() if (log := _log(path))}
    if compared.cuts:  # sums over different numbers of stages cannot be compared
        logs = {form: [{"step": row["step"], "total": row["heatmaps"]} for row in log] for form, log in logs.items()}
    plot_losses(logs, images / f"{name}-losses.png")
    lines(images / f"{name}-pck.png", *_shares(curves), "threshold, of the torso", "PCK: share of correct joints")
    for row in table:
        print(*(f"{k} {v}" for k, v in row.items()), sep="  ")


def _open(data: Path, annotations: str, split: str) -> KeypointSet:
    images = tuple(data / "data" / name for name in IMAGES if name != annotations)
    return open_dataset(data / "data" / annotations, split, images)


def _evaluate(predictor: Predictor, some: KeypointSet, compared: Comparison) -> Evaluation:
    return evaluate(predictor, some, crop=compared.crop, min_joints=compared.min_joints)


def _log(path: Path) -> list[dict[str, Any]]:
    return read_log(path.parent) if path.with_name("log.jsonl").exists() else []


def _cut(weights: Path, stages: int, run: Path) -> Path:
    """Write the first stages of a context_cpm as a run; returns the path for its ONNX file."""
    whole, info = open_weights(weights)
    options = asdict(whole.config) | {"stages": stages}
    net = build(info.name, info.joints_head, **options)
    state = whole.state_dict()
    net.load_state_dict({name: state[name] for name in net.state_dict()})
    run.mkdir()
    save_weights(run / "weights.safetensors", Average(net, 0.0), info, options)
    return run / "weights.onnx"


def _export(path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        export_weights(path.with_name("weights.safetensors"), path)


def _row(
    form: str, path: Path, compared: Comparison, train: KeypointSet | None, validation: KeypointSet
) -> tuple[dict[str, object], Evaluation]:
    net, info = open_weights(path.with_name("weights.safetensors"))
    size = measure(net, 3, info.size, info.size)
    predictor, last = Predictor(path), (_log(path) or [{}])[-1]
    held_back = _evaluate(predictor, validation, compared)
    row: dict[str, object] = {
        "form": form,
        "parameters": size.parameters,
        "gmacs": f"{size.macs / 1e9:.3f}",
        "steps": last.get("step", ""),
        "loss": f"{last['heatmaps' if compared.cuts else 'total']:.5f}" if last else "",
        **({} if compared.cuts else {"validation_loss": f"{last['validation']:.5f}"}),
        **_figures(held_back),
    }
    if train:
        train = replace(train, records=train.records[:FIRST])
        seen = _evaluate(predictor, train, compared)
        row["train_pck"] = f"{seen.scores['PCK@0.2']:.4f}"
        row["train_error"] = f"{error_of(predictor, seen, train, compared.crop, compared.min_joints):.3e}"
    error = error_of(predictor, held_back, validation, compared.crop, compared.min_joints)
    row["validation_error"] = f"{error:.3e}"
    return row, held_back


def _figures(done: Evaluation) -> dict[str, object]:
    return {column: f"{done.scores[column]:.4f}" for column in COLUMNS if column in done.scores}


def _time(models: dict[str, Path], rows: dict[str, dict[str, object]]) -> None:
    size = Predictor(next(iter(models.values()))).size
    image = np.random.default_rng(0).integers(0, 256, (1, size, size, 3), np.uint8)
    for threads in (1, 2):
        runtimes = {form: Predictor(path, threads=threads).runtime for form, path in models.items()}
        parts: dict[str, Callable[[], object]] = {form: lambda r=r: r(image) for form, r in runtimes.items()}
        times = take_turns(parts, 30)
        for form in models:
            rows[form][f"ms_{threads}"] = f"{median(times, form):.1f}"


def _shares(curves: dict[str, Evaluation]) -> tuple[np.ndarray, dict[str, list[float]]]:
    shares, thresholds = {}, np.empty(0)
    for form, done in curves.items():
        assert done.curve
        thresholds = done.curve.thresholds
        shares[form] = [done.curve.at(t) for t in thresholds]
    return thresholds, shares


if __name__ == "__main__":
    tyro.cli(main)
