from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from live import enliven
from network_tester import NetworkTester

from lithepose.analysis.complexity import measure
from lithepose.exporters.onnx import export_onnx
from lithepose.inference.predictor import Predictor
from lithepose.networks import build
from lithepose.networks.split_stream import FILTERS, filters
from lithepose.runtime.torch import TorchRuntime, describe


class TestSplitStream(NetworkTester):
    name = "split_stream"
    sizes = [(1, 64, 64), (2, 48, 64)]


class TestSharedDepthwise(NetworkTester):
    name = "split_stream"
    options = {"own_depthwise": False, "skip14": "concat", "skip28": "add", "streams": "equal"}
    sizes = [(1, 64, 64), (2, 48, 64)]


class RegressionTester(NetworkTester):
    name = "joint_regression"

    def shapes(self, net, n, h, w):
        return [(n, 11, 2)]


class TestRegression(RegressionTester):
    sizes = [(1, 64, 64), (2, 64, 96)]


class TestRegressionWithoutPooling(RegressionTester):
    options = {"pool": False, "size": 64}
    alive = (64, 64)
    sizes = [(1, 64, 64), (2, 64, 64)]


class TestSplitRegressionWithoutPooling(RegressionTester):
    options = {"pool": False, "split": True, "size": 64}
    alive = (64, 64)
    sizes = [(1, 64, 64), (2, 64, 64)]


class TestSplitRegression(RegressionTester):
    options = {"split": True}
    sizes = [(1, 64, 64), (2, 64, 96)]


@pytest.mark.parametrize(
    ("network", "options", "parameters", "macs"),
    [
        ("joint_regression", {}, 3_229_526, 567_738_880),
        ("joint_regression", {"pool": False}, 4_310_870, 568_820_224),
        ("joint_regression", {"split": True}, 3_321_686, 572_234_240),
        ("joint_regression", {"split": True, "own_depthwise": False}, 3_209_046, 567_718_400),
        ("joint_regression", {"split": True, "own_depthwise": False, "pool": False}, 3_307_350, 567_816_704),
        ("split_stream", {}, 2_281_803, 1_272_613_888),
        ("split_stream", {"skip28": "add"}, 2_185_291, 987_614_208),
        ("split_stream", {"skip14": "concat", "skip28": "add"}, 2_321_995, 1_093_987_328),
        ("split_stream", {"skip14": "concat"}, 2_418_507, 1_378_987_008),
    ],
)
def test_counts(network, options, parameters, macs):
    counts = measure(build(network, **options), 3, 224, 224)
    assert (counts.parameters, counts.macs) == (parameters, macs)


def test_distributions_share_the_same_filters():
    for name in (*FILTERS, "equal"):
        numbers = filters(name, 11)
        assert len(numbers) == 11
        assert sum(numbers) == 256
    assert filters("equal", 11) == (24, 24, 24, 23, 23, 23, 23, 23, 23, 23, 23)
    assert sum(filters("equal", 14)) == 256


@pytest.mark.parametrize("network", ["split_stream", "joint_regression"])
def test_streams_have_no_connection(network):
    """The output of one joint does not depend on another's filters."""
    options = {"split": True} if network == "joint_regression" else {}
    net = build(network, **options)
    (out,) = net(torch.randn(2, 3, 64, 64))[0]
    out[:, 3].sum().backward()
    for j in range(11):
        for part in (net.streams.joints[j].dw, net.streams.joints[j].pw, net.out[j]):
            gradient = part.weight.grad
            assert (gradient is not None and bool(gradient.any())) == (j == 3)


def test_streams_that_do_not_fit():
    for streams in ("many", (1, 2, 3), (0,) * 11):
        with pytest.raises(ValueError, match="streams"):
            build("split_stream", streams=streams)
    with pytest.raises(ValueError, match="size=100"):
        build("joint_regression", pool=False, size=100)
    with pytest.raises(ValueError, match="out_kernel=2"):
        build("split_stream", out_kernel=2)
    with pytest.raises(ValueError, match="64x96"):
        build("joint_regression", pool=False, size=64)(torch.zeros(1, 3, 64, 96))


def test_shared_depthwise_is_split_and_shared_again():
    """research/debnath2018split/split.py: splitting keeps the output, sharing takes the mean of the streams' own."""
    script = Path(__file__).parents[2] / "research" / "debnath2018split" / "split.py"
    pytest.importorskip("tyro")
    convert = runpy.run_path(str(script))
    torch.manual_seed(0)
    x = torch.rand(1, 3, 64, 64)
    shared = build("split_stream", own_depthwise=False)
    enliven(shared, x)
    shared.eval()
    split = build("split_stream").eval()
    split.load_state_dict(convert["split_state"](shared.state_dict(), 11))
    with torch.inference_mode():
        np.testing.assert_allclose(split(x)[0][0], shared(x)[0][0], atol=1e-5)
    first, second = (f"streams.joints.{joint}.dw.weight" for joint in (0, 1))
    state = split.state_dict()
    state[first], state[second] = state[first] - 0.5, state[second] + 0.5
    again = convert["shared_state"](state, 11)
    assert again.keys() == shared.state_dict().keys()
    for name, tensor in shared.state_dict().items():
        np.testing.assert_allclose(again[name], tensor, atol=1e-5)


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_exported_regression_takes_images_of_any_shape(tmp_path):
    torch.manual_seed(0)
    net = build("joint_regression", size=64)
    enliven(net, torch.rand(4, 3, 64, 64) * 2 - 1)
    export_onnx(net.eval(), describe("joint_regression", net), tmp_path / "w.onnx", half=False)
    for predictor in (Predictor(tmp_path / "w.onnx"), Predictor(TorchRuntime(net, describe("joint_regression", net)))):
        poses = predictor(np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8))
        assert poses.xy.shape == (1, 11, 2)
    with pytest.raises(ValueError, match="supports only size 64"):
        Predictor(tmp_path / "w.onnx", size=96)
    runtime = Predictor(tmp_path / "w.onnx").runtime
    with pytest.raises(ValueError, match="cannot run it at"):
        runtime(np.zeros((1, 64, 96, 3), np.uint8))
