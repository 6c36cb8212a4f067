"""Plot the losses of consecutive training runs over their samples, as in choi2018binarized's figure 5.

    python research/losses.py runs/lithe-paf-384 runs/lithe-paf-more runs/lithe-paf-long runs/lithe-paf-fifth \\
        --out docs/images/lithe-losses.png

Each point is the mean over a window of steps, because single batches differ more than a run improves.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tyro

from lithepose.analysis.plot import lines
from lithepose.training.report import read_log

WINDOW = 10  # lines of the log, each of twenty steps


def main(runs: tuple[Path, ...], /, out: Path) -> None:
    """Plot the losses.

    Args:
        runs: folders of runs, each of which started from the weights of the previous one.
        out: image to write.
    """
    x, curves, before = {}, {}, 0
    for run in runs:
        rows = [row for row in read_log(run) if "total" in row]
        if len(rows) < WINDOW:
            raise SystemExit(f"{run}: only {len(rows)} lines in its log; {WINDOW} or more are required")
        batch = json.loads((run / "recipe.json").read_text(encoding="utf-8"))["batch"]
        smooth = np.convolve([row["total"] for row in rows], np.ones(WINDOW) / WINDOW, "valid")
        samples = np.array([row["step"] for row in rows]) * batch
        middle = samples[WINDOW // 2 : WINDOW // 2 + len(smooth)]
        x[run.name], curves[run.name] = ((before + middle) / 1000).tolist(), smooth.tolist()
        before += samples[-1]
    lines(out, x, curves, "thousand samples", "training loss")


if __name__ == "__main__":
    tyro.cli(main)
