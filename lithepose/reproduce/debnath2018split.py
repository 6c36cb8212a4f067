"""debnath2018split: joints of the upper body by split streams and baselines, with errors, sizes and times."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from ..analysis.plot import bars, lines
from ..heads.heatmaps import FLIC_HEAD
from ..networks import build
from ..networks.split_stream import FILTERS, TOTAL, filters
from ..timing import Row
from .trained import (
    Form,
    Run,
    conditions,
    count,
    figure,
    loss_row,
    losses,
    scores,
    squared_error,
    times,
    trained,
)
from .work import Result, Work

PAPER = "FLIC, crops around one person, batch 16, Adam, 50,000 steps at 1e-3 and 150,000 at 1e-4; PCK@0.2 of the torso"
FORMS = {
    "regression": Form("joint-regression", "joint-regression-mini"),
    "regression without pooling": Form("joint-regression-no-pooling", "joint-regression-no-pooling-mini"),
    "split regression": Form("split-regression", "split-regression-mini"),
    "split streams": Form("split-stream", "split-stream-mini"),
}
NETWORKS = {
    "regression": ("joint_regression", {}),
    "regression without pooling": ("joint_regression", {"pool": False}),
    "split regression": ("joint_regression", {"split": True}),
    "split streams": ("split_stream", {}),
}
TABLE2 = {  # accuracy, ms, million parameters and MB, as printed
    "regression": (96.4, 10, 4.3, 68),
    "split regression": (96.9, 10, 3.3, 52),
    "split streams": (97.3, 12, 2.3, 26),
}
TABLE3 = {  # squared error in training and validation; the paper gives no unit
    "regression": ("1.57e-04", "1.67e-03"),
    "regression without pooling": ("2.40e-05", "1.04e-03"),
    "split regression": ("1.52e-04", "7.93e-04"),
}
JOINTS = 10  # labelled joints of a measured person
SIZE = 224


def _runs(work: Work, *names: str) -> dict[str, Run]:
    forms = {name: FORMS[name] for name in names or FORMS}
    return trained(work, forms, partial(work.one_person, faces=True))


def accuracy(work: Work) -> Result:
    """Table 1: elbows and wrists of the final network."""
    runs, rows = _runs(work, "split streams"), list[Row]()
    for name, run in runs.items():
        done = scores(run, joints=JOINTS)
        rows.append(
            {
                "network": name,
                **loss_row(run),
                "elbows %": figure(done, "elbows"),
                "paper elbows %": 97.6,
                "wrists %": figure(done, "wrists"),
                "paper wrists %": 95.2,
                "all %": figure(done, "PCK@0.2"),
            }
        )
    row = rows[0]
    series = {
        "ours": {part: float(str(row[f"{part} %"] or 0)) for part in ("elbows", "wrists")},
        "paper": {"elbows": 97.6, "wrists": 95.2},
    }
    return Result(rows, lambda path: bars(path, series, "PCK@0.2, per cent"), conditions(work, runs, PAPER))


def variants(work: Work) -> Result:
    """Table 2: accuracy, time, parameters and size of the baseline, split regression and final network."""
    runs, rows = _runs(work, *TABLE2), list[Row]()
    nets = {name: build(NETWORKS[name][0], **NETWORKS[name][1]) for name in TABLE2}
    spent = times(nets, SIZE, SIZE, 5 if work.mini else 50)
    for name, (printed, ms, million, megabytes) in TABLE2.items():
        c = count(nets[name], SIZE, SIZE)
        rows.append(
            {
                "network": name,
                "PCK@0.2 %": figure(scores(runs[name], joints=JOINTS), "PCK@0.2"),
                "paper accuracy %": printed,
                "ms": f"{spent[name][0]:.1f}",
                "time of regression": f"{spent[name][1]:.2f}",
                "paper time of regression": f"{ms / 10:.2f}",
                "parameters, M": f"{c.parameters / 1e6:.3f}",
                "paper parameters, M": million,
                "MB of a checkpoint, 16 bytes each": f"{16 * c.parameters / 1e6:.1f}",
                "paper MB": megabytes,
                "GMACs": f"{c.macs / 1e9:.3f}",
            }
        )
    key = "parameters, M"
    series = {kind: {str(r["network"]): float(str(r[kind])) for r in rows} for kind in (key, f"paper {key}")}
    remarks = (
        "time: torch on a CPU at 224x224; the paper: Quadro M4000",
        "the paper's 4.3 M parameters of the baseline are those of MobileNet with 1001 classes; it defines neither"
        " accuracy nor size",
    )
    return Result(rows, lambda path: bars(path, series, "millions"), [*conditions(work, runs, PAPER), *remarks])


def errors(work: Work) -> Result:
    """Table 3: squared error of the regression networks in training and validation."""
    runs, rows = _runs(work), list[Row]()
    for name, run in runs.items():
        printed = TABLE3.get(name, ("", ""))
        rows.append(
            {
                "network": name,
                "training error": f"{squared_error(run, True, JOINTS):.3e}",
                "paper training error": printed[0],
                "validation error": f"{squared_error(run, False, JOINTS):.3e}",
                "paper validation error": printed[1],
            }
        )
    keys = "training error", "validation error"
    series = {key: {str(row["network"]): float(str(row[key])) for row in rows} for key in keys}
    remarks = "squared distances relative to the side of the input; the paper states no unit"
    return Result(
        rows, lambda path: bars(path, series, "squared error", log=True), [*conditions(work, runs, PAPER), remarks]
    )


def curves(work: Work) -> Result:
    """Figure 4: training and validation losses over steps."""
    runs = _runs(work)
    rows = [{"network": name} | loss_row(run) | {"paper": "curves without numbers"} for name, run in runs.items()]
    return Result(rows, lambda path: losses(runs, path), conditions(work, runs, PAPER))


def shares(work: Work) -> Result:
    """Figure 5: share of correct joints over the threshold."""
    runs, rows = _runs(work), list[Row]()
    shown: dict[str, list[float]] = {}
    thresholds: list[float] = []
    for name, run in runs.items():
        curve = scores(run, joints=JOINTS).curve
        assert curve is not None
        thresholds = curve.thresholds.tolist()
        shown[name] = [curve.at(t) for t in thresholds]
        at = {f"PCK@{t:g} %": f"{100 * curve.at(t):.1f}" for t in (0.05, 0.1, 0.15, 0.2)}
        row: Row = {"network": name, **at, "paper": "a curve; 97.6 and 95.2 for elbows and wrists at 0.2"}
        rows.append(row)
    return Result(
        rows,
        lambda path: lines(path, thresholds, shown, "threshold, of the torso", "share of correct joints"),
        conditions(work, runs, PAPER),
    )


def speed(work: Work) -> Result:
    """Figure 1: time per image of every network."""
    nets = {name: build(network, **options) for name, (network, options) in NETWORKS.items()}
    spent = times(nets, SIZE, SIZE, 5 if work.mini else 50)
    printed = {name: ms for name, (_, ms, _, _) in TABLE2.items()}
    rows: list[Row] = [
        {
            "network": name,
            "ms": f"{ms:.1f}",
            "paper ms": printed.get(name, ""),
            "time of regression": f"{share:.2f}",
            "paper time of regression": f"{printed[name] / 10:.2f}" if name in printed else "",
        }
        for name, (ms, share) in spent.items()
    ]
    series = {"ours": {name: ms for name, (ms, _) in spent.items()}, "paper": {k: float(v) for k, v in printed.items()}}
    return Result(
        rows,
        lambda path: bars(path, series, "ms at 224x224"),
        ("the paper: Quadro M4000; here torch on a CPU, networks in turn, random weights; compare ratios",),
    )


def allocation(work: Work) -> Result:
    """Figure 2b: filters of each joint's stream."""
    joints = FLIC_HEAD.skeleton.joints
    found = {name: filters(name, len(joints)) for name in ("equal", *FILTERS)}
    rows: list[Row] = [
        {"joint": joint, **{name: numbers[k] for name, numbers in found.items()}, "paper": "a figure without numbers"}
        for k, joint in enumerate(joints)
    ]
    series = {name: dict(zip(joints, map(float, numbers), strict=True)) for name, numbers in found.items()}

    def draw(path: Path) -> None:
        bars(path, series, f"filters of {TOTAL}")

    return Result(
        rows,
        draw,
        (
            "the paper's numbers cannot be recovered, because the counts do not depend on them",
            "the paper says that wrists and elbows get more than an equal share; for another split, set the option"
            " `streams` of split_stream in a recipe to a name or to one number per joint",
        ),
    )
