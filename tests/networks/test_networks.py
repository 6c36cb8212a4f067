from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from live import enliven
from network_tester import NetworkTester
from safetensors.torch import save_file

from lithepose.analysis.complexity import measure_parts
from lithepose.exporters.onnx import export_weights, open_weights
from lithepose.heads.pafs import COCO_HEAD
from lithepose.inference.models import WEIGHTS, manifest, open_runtime
from lithepose.inference.predictor import Predictor
from lithepose.networks import NETWORKS, build, head_of
from lithepose.networks.backbones.mobilenet import MobileNetV1
from lithepose.runtime.onnx import ModelInfo, OnnxRuntime
from lithepose.runtime.torch import describe
from lithepose.skeleton import Skeleton
from lithepose.training.checkpoint import save_weights
from lithepose.training.optim import Average

SMALL = {"width": 16, "context": 16, "blocks": (1, 1)}


class TestLithePaf(NetworkTester):
    name = "lithe_paf"
    options = SMALL
    stages = 2


def test_lithe_paf_stays_within_its_budget_and_the_manifest_says_so():
    counts = measure_parts(build("lithe_paf"), 256, 384)["whole"]
    parameters, macs = counts.parameters, counts.macs
    assert macs <= 1.5e9
    assert parameters <= 5e6
    said = manifest()["lithe_paf"]
    assert (said["parameters"], said["macs"]) == (parameters, macs)


@pytest.mark.parametrize("name", manifest())
def test_embedded_weights_are_those_of_the_manifest(name):
    said = manifest()[name]
    path = WEIGHTS / said["file"]
    assert hashlib.sha256(path.read_bytes()).hexdigest() == said["sha256"]
    assert path.stat().st_size <= 22e6
    assert (WEIGHTS / "cards" / f"{name}.md").exists()
    assert open_runtime(name).info.size == said["size"]


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
    for options, says in (
        ({"widht": 3}, "widht"),
        ({"width": 130}, "width=130"),
        ({"blocks": ()}, "blocks"),
        ({"expansion": 0}, "expansion"),
    ):
        with pytest.raises(ValueError, match=says):
            build("lithe_paf", **options)
    with pytest.raises(ValueError, match="64x64"):
        build("lithe_paf", **SMALL)(torch.zeros(1, 3, 0, 0))


def test_a_single_joint_is_for_networks_of_one():
    with pytest.raises(ValueError, match=r"dot: has no edges, which are needed to find people; .* use context_cpm"):
        head_of("lithe_paf", Skeleton("dot", ("centre",)))
    assert head_of("context_cpm", Skeleton("dot", ("centre",))).channels == (2, 0)  # with the background


def test_the_table_of_counts_is_what_is_counted():
    """research/results/complexity.csv, the rows that are counted in a moment."""
    table = Path(__file__).parents[2] / "research" / "results" / "complexity.csv"
    with open(table, newline="", encoding="utf-8") as file:
        rows = {row["network"]: row for row in csv.DictReader(file)}
    for name, network, options in (
        ("context_cpm context=pyramid stages=2", "context_cpm", {"context": "pyramid", "stages": 2}),
        ("binary_paf", "binary_paf", {}),
        ("split_stream", "split_stream", {}),
    ):
        row = rows[name]
        counts = measure_parts(build(network, **options), *map(int, row["input"].split("x")))["whole"]
        for column in ("parameters", "conv_weights", "bn_statistics", "macs", "binary_weights", "binary_macs"):
            assert int(row[column]) == getattr(counts, column), (name, column)
        assert row["mb_packed"] == f"{counts.megabytes['packed']:.2f}"


def test_imagenet_start_is_checked(tmp_path):
    path = tmp_path / "start.safetensors"
    save_file({"stem.conv.weight": torch.zeros(32, 3, 3, 3)}, path)
    with pytest.raises(ValueError, match=r"start\.safetensors.*stem\.bn"):
        MobileNetV1().load_imagenet(path)


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_export_agrees_with_torch_and_round_trips_its_description(tmp_path):
    torch.manual_seed(1)
    net = build("lithe_paf", **SMALL)
    enliven(net, torch.rand(4, 3, 256, 256) * 2 - 1)
    for output in (net.stages[-1].heatmaps, net.stages[-1].pafs):
        output.weight.data *= 0.1  # as those of trained networks, within about 1
    weights = tmp_path / "w.safetensors"
    save_weights(weights, Average(net, 0.9))
    with pytest.raises(ValueError, match="--network"):
        export_weights(weights, tmp_path / "w.onnx")
    save_weights(weights, Average(net, 0.9), describe("lithe_paf", net, 192), SMALL)
    assert open_weights(weights)[1] == ModelInfo("lithe_paf", COCO_HEAD, 64, 192)
    path = tmp_path / "w.onnx"
    assert export_weights(weights, path, "lithe_paf", SMALL, 320) < 0.05
    runtime = OnnxRuntime(path, 1)
    assert runtime.info == ModelInfo("lithe_paf", COCO_HEAD, 64, 320)
    assert Predictor(path).size == 320
    batch = np.random.default_rng(0).integers(0, 255, (3, 128, 64, 3), np.uint8)
    together, alone = runtime(batch), runtime(batch[1:2])[0]
    assert np.allclose(together[1].heatmaps, alone.heatmaps, atol=1e-5)
    with pytest.raises(ValueError, match=r"w\.safetensors"):
        export_weights(weights, path, "lithe_paf", SMALL | {"width": 32}, 320)
    broken = {k: v.half() for k, v in net.state_dict().items() if v.is_floating_point()}
    broken["stages.1.heatmaps.bias"][3] = float("nan")
    save_file(broken, tmp_path / "nan.safetensors")
    with pytest.raises(ValueError, match=r"nan\.safetensors: stages\.1\.heatmaps\.bias"):
        export_weights(tmp_path / "nan.safetensors", tmp_path / "nan.onnx", "lithe_paf", SMALL, 320)
    assert not (tmp_path / "nan.onnx").exists()
