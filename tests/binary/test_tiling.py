"""Every tiling of the kernel gives the same bits; the fastest is measured once and kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

for needed in ("numba", "safetensors", "threadpoolctl"):
    pytest.importorskip(needed)

from lithepose.binary import kernel, tiling
from lithepose.binary.bits import BinaryLayer
from lithepose.binary.planes import pack_activations


def layer_of(c_in: int, c_out: int, side: int = 3) -> BinaryLayer:
    rng = np.random.default_rng(c_in)
    return BinaryLayer.from_weights(rng.normal(size=(c_out, c_in, side, side)), np.ones(c_out))


@pytest.mark.parametrize(("c_in", "side"), [(3, 1), (16, 3), (57, 3), (64, 3), (185, 3), (230, 3), (64, 7)])
def test_every_tiling_is_the_same_convolution(c_in, side):
    x = np.random.default_rng(1).normal(size=(1, c_in, 9, 60)).astype(np.float32)
    signs, layer = pack_activations(x, kernel=side), layer_of(c_in, 5, side)
    padded = np.pad(np.where(x[0] >= 0, 1, -1), ((0, 0), (side // 2,) * 2, (side // 2,) * 2))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (side, side), (1, 2))
    weights = np.where(np.random.default_rng(c_in).normal(size=(5, c_in, side, side)) >= 0, 1, -1)
    expected = np.einsum("chwyx,ocyx->ohw", windows, weights)
    for block in kernel.BLOCKS:
        assert np.array_equal(layer.tiled(block)(signs)[0], expected), block


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    monkeypatch.setattr(tiling, "_file", lambda: tmp_path / tiling.FILE)
    monkeypatch.setattr(tiling, "_known", {})
    return tmp_path / tiling.FILE


def test_it_is_measured_once_and_kept(own_file, monkeypatch):
    measured = []
    monkeypatch.setattr(tiling, "measure", lambda trial: measured.append(trial) or 64)
    assert tiling.block_of("layer", lambda block: lambda: None) == 64
    tiling._known.clear()  # as in another process
    assert tiling.block_of("layer", lambda block: lambda: None) == 64
    assert len(measured) == 1
    (key,) = json.loads(own_file.read_text())
    assert key.startswith("layer, ")


@pytest.mark.parametrize("text", ["", "[]", "null", '{"layer": 7, "other": 16}'])
def test_a_file_that_holds_no_tiling_is_not_believed(own_file, text):
    own_file.write_text(text)
    assert 7 not in tiling._read().values()
    assert tiling.block_of("layer", lambda block: lambda: None) in kernel.BLOCKS


@pytest.mark.parametrize(
    ("spent", "best"),
    [
        ({"16": [1.0], "32": [1.0], "64": [0.99]}, 32),
        ({"16": [1.0], "32": [1.0], "64": [0.9]}, 64),
        ({"16": [0.5], "32": [1.0], "64": [0.9]}, 16),
    ],
)
def test_another_than_the_usual_must_be_clearly_faster(monkeypatch, spent, best):
    monkeypatch.setattr(tiling, "take_turns", lambda *_: spent)
    assert tiling.measure(lambda block: lambda: None) == best
