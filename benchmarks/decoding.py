"""Time from a network's outputs to Poses on one thread, for maps of 46x54 cells with 1 to 20 drawn people.

    python benchmarks/decoding.py --out results/decoding-CPU.csv

It also measures the papers' algorithm with one number at a time (``benchmarks/parsing.py``), which the tests use as a
reference. Both groupings are measured: the image's best limb first (huang2019mln, which states 0.2 ms for 2 people and
0.6 for 10), and OpenPose's. All parts take turns in every round. Writes a table of medians to ``--out``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import tyro

os.environ["OMP_NUM_THREADS"] = "1"
ROOT = Path(__file__).parent.parent

import numpy as np
import parsing
from crowds import maps_of, people_of

import lithepose
from lithepose.heads.grouping import score_limbs
from lithepose.heads.heatmaps import peaks
from lithepose.heads.pafs import PafHead
from lithepose.timing import cpu, median, take_turns, write_table

HEIGHT, WIDTH = 46, 54
ROUNDS = 300


def main(out: Path) -> None:
    """Measure, and write the table.

    Args:
        out: CSV file to write.
    """
    model = lithepose.Predictor("lithe_paf", size=8 * WIDTH, threads=1)
    head = model.head
    assert isinstance(head, PafHead)
    by_limb = model.with_config(by_limb=True)
    _, back = model.letterbox(np.zeros((8 * HEIGHT, 8 * WIDTH, 3), np.uint8))
    rows = []
    for people in (1, 2, 5, 10, 20):
        maps = maps_of(people_of(people, 0), (HEIGHT, WIDTH))
        joint, cells, _ = peaks(maps, head, model.config.peak)
        parts: dict[str, Callable[[], object]] = {
            "all": lambda m=maps: model.decode(m, back),
            "peaks": lambda m=maps: peaks(m, head, model.config.peak),
            "limbs": lambda m=maps, j=joint, c=cells: score_limbs(m, head, j, c, model.config),
            "all by limb": lambda m=maps: by_limb.decode(m, back),
        }
        times = take_turns(parts, ROUNDS)
        slow = take_turns({"text": lambda m=maps: parsing.parse(m, head, model.config)}, 3)
        rows.append(
            {
                "people": people,
                "found": len(model.decode(maps, back)),
                **{f"{name.replace(' ', '_')}_ms": f"{median(times, name):.3f}" for name in parts},
                "by_the_text_ms": f"{median(slow, 'text'):.1f}",
                "rounds": ROUNDS,
                "cpu": cpu(),
            }
        )
        print(*(f"{key} {value}" for key, value in rows[-1].items()), sep="  ")
    write_table(out, rows)


if __name__ == "__main__":
    tyro.cli(main)
