"""What benchmarks compute from times; never how long anything takes."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("numba")

from lithepose import timing
from lithepose.binary.benchmark import COLUMNS, layers, modules, rows_of, without_bits
from lithepose.binary.pack import pack_stages
from lithepose.binary.stages import Workers, refine
from lithepose.networks import build
from lithepose.timing import median, ratio, take_turns


def test_parts_take_turns():
    order: list[str] = []
    times = take_turns({name: lambda name=name: order.append(name) for name in "ab"}, 5)
    rounds = ["".join(sorted(order[-10 + i : -8 + i or None])) for i in range(0, 10, 2)]
    assert rounds == ["ab"] * 5
    assert order[-10:] != ["a", "b"] * 5, "in another order every round"
    assert [len(times[name]) for name in "ab"] == [5, 5]


def test_short_parts_are_called_until_a_turn_is_long_enough(monkeypatch):
    clock = {"now": 0.0}
    monkeypatch.setattr(timing.time, "perf_counter", lambda: clock["now"])
    calls = {"short": 0}

    def short() -> None:
        calls["short"] += 1
        clock["now"] += 0.0002

    times = take_turns({"short": short}, 3, least=1.0)
    assert times["short"] == pytest.approx([0.2] * 3)
    assert calls["short"] == 1 + timing.WARMUP + 3 * (1 + 5)


def test_ratios_are_of_the_same_round():
    times = {"binary": [1.0, 2.0, 8.0], "float": [10.0, 30.0, 80.0]}
    assert median(times, "binary") == 2
    assert ratio(times, "float", "binary") == 10
    rows = rows_of("layer", "1x1x1", 1, times)
    assert [row["ratio"] for row in rows] == ["1.00", "10.00"]


def test_tables_have_all_forms_and_shares():
    rows = layers(64, 3, 4, rounds=1)
    forms = {"binary", "packing", "fp32 3x3", "bf16 3x3", "fp32 7x7", "fp32 multi-scale"}
    assert forms <= {row["form"] for row in rows} <= forms | {"int8 3x3", "binary, tiling 32"}
    assert set(rows[0]) <= set(COLUMNS)
    assert {"tops", "peak_tops", "share", "counting_peak_tops", "counting_share", "tiling"} <= set(rows[0])
    assert {row["form"] for row in modules(3, 4, rounds=1)} >= {"binary", "fp32 multi-scale", "fp32 7x7"}


def test_amdahls_bound_keeps_the_float_layers():
    """Without bits a stage gives the maps of its shortcut and 1x1 layers alone."""
    net = build("binary_paf", stages=2, backbone="mobilenet_v1").eval()
    stages = pack_stages(net)
    empty = [without_bits(stage) for stage in stages]
    x = np.random.default_rng(0).normal(size=(1, 185, 5, 6)).astype(np.float32)
    whole, bare = (refine(x, s, Workers(1)) for s in (stages, empty))
    limbs, cells = stages[0].limbs, x[0].reshape(185, 30)
    skip = limbs.chains[0].skip
    around = skip.weight @ np.maximum(cells * skip.gain[:, None] + skip.shift[:, None], 0)
    (weight, bias), (weight2, bias2) = limbs.pointwise
    expected = weight2 @ np.maximum(weight @ around + bias[:, None], 0) + bias2[:, None]
    assert np.allclose(bare[0, : len(expected)].reshape(len(expected), 30), expected, atol=1e-5)
    assert not np.allclose(whole, bare)
