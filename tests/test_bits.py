from __future__ import annotations

import itertools

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from lithepose.networks.binary import BinaryConv2d  # noqa: E402
from lithepose.runtime.bits import BinaryLayer, pack_activations, pack_bits  # noqa: E402

SIDES = (1, 2, 3, 17, 46)


@pytest.mark.parametrize("c_in", [1, 31, 32, 33, 64, 185])
@pytest.mark.parametrize("c_out", [1, 16, 32, 64, 96])
def test_bits_are_the_float_convolution(c_in, c_out):
    """Every size, border and number of channels: the same bits as torch's float form."""
    torch.manual_seed(c_in * c_out)
    layer = BinaryConv2d(c_in, c_out)
    packed = BinaryLayer.from_weights(*(t.detach().numpy() for t in (layer.weight, layer.weight.abs().mean((1, 2, 3)))))
    for height, width in itertools.product(SIDES[:4], SIDES[:4]) if c_out != 64 else ((46, 46), (1, 46), (46, 3)):
        x = torch.randn(1, c_in, height, width)
        with torch.no_grad():
            expected = layer(x)[0].permute(1, 2, 0)
        got = packed(pack_activations(x[0].permute(1, 2, 0).numpy()))
        assert torch.equal(torch.from_numpy(got.copy()), expected), (height, width)


def test_zeros_and_what_is_no_number():
    x = np.array([[[0.0, -0.0, 1e-40, -1e-40, np.nan, np.inf, -np.inf]]], np.float32)
    bits = pack_activations(x)
    assert bits.shape == (3, 3, 1)
    assert bits[1, 1, 0] == 0b0100111
    assert not bits[[0, 2]].any()
    assert not bits[:, [0, 2]].any()


def test_packing_is_the_same_on_every_machine():
    positive = np.zeros((2, 70), bool)
    positive[0, [0, 33, 69]] = True
    assert pack_bits(positive).tolist() == [[1, 2, 32], [0, 0, 0]]
    layer = BinaryLayer.from_weights(np.random.default_rng(0).normal(size=(128, 128, 3, 3)), np.ones(128))
    assert layer.bits.nbytes + layer.scale.nbytes <= 20_000


def test_other_channels_are_refused():
    layer = BinaryLayer.from_weights(np.ones((3, 40, 3, 3)), np.ones(3))
    with pytest.raises(ValueError, match="40 channels"):
        layer(np.zeros((4, 4, 3), np.uint32))
