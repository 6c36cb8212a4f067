from __future__ import annotations

import csv
import hashlib

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from network_tester import NetworkTester  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from lithepose.complexity import measure_parts  # noqa: E402
from lithepose.export import export_weights  # noqa: E402
from lithepose.networks import NETWORKS, build  # noqa: E402
from lithepose.networks.backbones import MobileNetV1  # noqa: E402
from lithepose.predict import WEIGHTS, Predictor, manifest  # noqa: E402
from lithepose.runtime.onnx import ModelInfo, OnnxRuntime  # noqa: E402
from lithepose.skeleton import COCO_HEAD  # noqa: E402
from lithepose.training.train import Average, save_weights  # noqa: E402

SMALL = {"width": 16, "context": 16, "blocks": (1, 1)}


class TestLithe(NetworkTester):
    name = "lithe"
    options = SMALL
    stages = 2


def test_lithe_stays_within_its_budget_and_the_manifest_says_so():
    counts = measure_parts(build("lithe"), 256, 384)["whole"]
    parameters, macs = counts.parameters, counts.macs
    assert macs <= 1.5e9
    assert parameters <= 5e6
    said = manifest()["lithe"]
    assert (said["parameters"], said["macs"]) == (parameters, macs)


@pytest.mark.parametrize("name", manifest())
def test_embedded_weights_are_those_of_the_manifest(name):
    said = manifest()[name]
    path = WEIGHTS / said["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said["sha256"]
    assert path.stat().st_size <= 10e6
    assert (WEIGHTS / "cards" / f"{name}.md").exists()
    assert Predictor(name).size == said["size"]


def test_the_table_of_networks_is_what_is_counted():
    with open(WEIGHTS / "networks.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["network"] for row in rows] == list(NETWORKS)
    for row in rows:
        if row["network"] == "keypoint_rcnn":
            pytest.importorskip("torchvision")
        height, width = map(int, row["input"].split("x"))
        counts = measure_parts(build(row["network"]), height, width)["whole"]
        assert (int(row["parameters"]), int(row["macs"])) == (counts.parameters, counts.macs)
        assert int(row["binary_macs"]) == counts.binary_macs


def test_build_names_what_is_wrong():
    with pytest.raises(ValueError, match="lithium"):
        build("lithium")
    with pytest.raises(ValueError, match="widht"):
        build("lithe", widht=3)


def test_imagenet_start_is_checked(tmp_path):
    path = tmp_path / "start.safetensors"
    save_file({"stem.conv.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"start\.safetensors.*stem\.bn"):
        MobileNetV1().load_imagenet(path)


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_export_agrees_with_torch_and_round_trips_its_description(tmp_path):
    torch.manual_seed(0)
    net = build("lithe", **SMALL)
    for _ in range(3):
        net(torch.randn(4, 3, 64, 128))  # BatchNorm statistics of its own
    weights = tmp_path / "w.safetensors"
    save_weights(weights, Average(net, 0.9))
    path = tmp_path / "w.onnx"
    assert export_weights(weights, "lithe", SMALL, path, 320) < 2e-3
    runtime = OnnxRuntime(path, 1)
    assert runtime.info == ModelInfo("lithe", COCO_HEAD, 64, 320)
    assert Predictor(path).size == 320
    batch = np.random.default_rng(0).integers(0, 255, (3, 128, 64, 3), np.uint8)
    together, alone = runtime(batch), runtime(batch[1:2])[0]
    assert np.allclose(together[1].heatmaps, alone.heatmaps, atol=1e-5)
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        export_weights(weights, "lithe", SMALL | {"width": 32}, path, 320)
    broken = {k: v.half() for k, v in net.state_dict().items() if v.is_floating_point()}
    broken["stages.1.heatmaps.bias"][3] = float("nan")
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"nan\.safetensors: stages\.1\.heatmaps\.bias"):
        export_weights(tmp_path / "nan.safetensors", "lithe", SMALL, tmp_path / "nan.onnx", 320)
    assert not (tmp_path / "nan.onnx").exists()
