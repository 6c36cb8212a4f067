from __future__ import annotations

import numpy as np
import pytest
import torch
from network_tester import NetworkTester
from safetensors.torch import save_file

from lithepose.analysis.complexity import measure, measure_parts
from lithepose.inference.predictor import Predictor
from lithepose.networks import build
from lithepose.networks.backbones.mobilenet import MobileNetV1
from lithepose.networks.keypoint_rcnn import KeypointHead, KeypointRcnnConfig
from lithepose.training.checkpoint import save_weights
from lithepose.training.optim import Average

torchvision = pytest.importorskip("torchvision")


def targets(n: int, h: int, w: int) -> list[dict[str, torch.Tensor]]:
    """One large person an image, all joints visible, on a diagonal."""
    box = torch.tensor([[4.0, 4.0, w - 4, h - 4]])
    step = torch.linspace(0.1, 0.9, 17)[:, None]
    joints = torch.cat([box[0, :2] + step * (box[0, 2:] - box[0, :2]), torch.full((17, 1), 2.0)], 1)
    return [{"boxes": box, "labels": torch.ones(1, dtype=torch.int64), "keypoints": joints[None]}] * n


class TestExpanded(NetworkTester):
    name = "keypoint_rcnn"

    def fresh(self, seed):
        torch.manual_seed(seed)
        return build(self.name, **self.options)  # its boxes are far from nothing as it is

    options = {"layers": 2, "width": 32, "size": 96, "detections": 5}
    sizes = [(1, 96, 96), (2, 64, 96)]
    tolerance = 1e-3  # of the input's side

    def outputs(self, net, x):
        with torch.no_grad():
            return [tensor for people in net.eval()(x) for tensor in (people["boxes"], people["keypoints"])]

    def loss(self, net):
        torch.manual_seed(0)
        return sum(net.train()(self.image(-1), targets(*self.sizes[-1])).values())

    def shapes(self, net, n, h, w):
        return [(5, 4), (5, 17, 3)] * n


class TestSingleLevelDepthwise(TestExpanded):
    options = TestExpanded.options | {"levels": "c4", "conv": "depthwise"}


class TestMobileNetV1(TestExpanded):
    options = TestExpanded.options | {"backbone": "mobilenet_v1"}


class TestVanilla(TestExpanded):
    options = TestExpanded.options | {"conv": "vanilla", "norm": True}


@pytest.mark.parametrize(
    ("conv", "expansion", "parameters", "macs"),
    [
        ("vanilla", 1, 17_698_816, 3_468_165_120),
        ("depthwise", 1, 2_008_576, 392_125_440),
        ("expanded", 2, 4_013_056, 784_250_880),
        ("expanded", 4, 8_022_016, 1_568_501_760),
    ],
)
def test_heads(conv, expansion, parameters, macs):
    counts = measure(KeypointHead(KeypointRcnnConfig(conv=conv, expansion=expansion)), 256, 14, 14)
    assert (counts.parameters, counts.macs) == (parameters, macs)


@pytest.mark.parametrize(("conv", "parameters"), [("vanilla", 37_962_074), ("depthwise", 22_271_834)])
def test_whole(conv, parameters):
    parts = measure_parts(build("keypoint_rcnn", conv=conv), 320, 320)
    assert parts["whole"].parameters == parameters
    assert parts["backbone"].macs == 5_540_585_600
    assert parts["proposals"].macs == 5_060_985_600


def test_frozen_statistics_and_unknown_options():
    net = build("keypoint_rcnn", layers=1, width=8)
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms
    net.train(False).train()
    assert not any(m.training or m.weight.requires_grad for m in norms)
    for options in (
        {"conv": "dense"},
        {"levels": "c5"},
        {"backbone": "resnet"},
        {"backbone": "mobilenet_v1", "levels": "c4"},
    ):
        with pytest.raises(ValueError, match=next(iter(options.values()))):
            build("keypoint_rcnn", **options)
    for options in ({"layers": 0}, {"expansion": 0}, {"size": 100}, {"detections": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            build("keypoint_rcnn", **options)


def test_the_start_of_the_other_networks_fits_mobilenet_v1(tmp_path):
    torch.manual_seed(0)
    backbone = MobileNetV1(blocks=13)
    save_file(
        {f"backbone.{name}": tensor for name, tensor in backbone.state_dict().items()}, tmp_path / "start.safetensors"
    )
    net = build("keypoint_rcnn", layers=1, width=8, backbone="mobilenet_v1")
    net.load_imagenet(tmp_path / "start.safetensors")
    assert net.mean == MobileNetV1.mean
    for name, tensor in backbone.state_dict().items():
        assert torch.equal(tensor, net.backbone.state_dict()[name]), name
    net.backbone.freeze(5)
    net.train()
    frozen = {name.split(".")[1] for name, p in net.backbone.named_parameters() if not p.requires_grad and p.ndim == 4}
    assert frozen == {"conv", "0", "1", "2", "3", "4"}


def test_scores_do_not_depend_on_where_a_map_lies():
    """The loss cannot tell a map from the same map with 20 less in every cell; neither must the score."""
    torch.manual_seed(0)
    net = build("keypoint_rcnn", layers=1, width=8, size=96, detections=3).eval()
    last = net.detector.roi_heads.keypoint_predictor.kps_score_lowres
    x, before = torch.randn(1, 3, 96, 96), last.bias.clone()
    with torch.no_grad():
        last.weight *= 1000  # so that some cells stand out
        scores = []
        for bias in (before, before - 20):
            last.bias.copy_(bias)
            scores.append(net(x)[0]["keypoints_scores"])
    assert len(scores[0])
    assert torch.allclose(*scores, rtol=1e-3)
    assert ((scores[0] > 0) & (scores[0] <= 1)).all()
    assert scores[0].max() > 3 * scores[0].min()


@pytest.mark.filterwarnings("ignore")  # of the exporter, about itself
def test_predictor_takes_its_people(tmp_path):
    from lithepose.exporters.onnx import export_weights

    torch.manual_seed(0)
    options = {"layers": 1, "width": 8, "size": 96, "detections": 3}
    net = build("keypoint_rcnn", **options)
    save_weights(tmp_path / "w.safetensors", Average(net, 0.9))
    export_weights(tmp_path / "w.safetensors", tmp_path / "w.onnx", "keypoint_rcnn", options)
    images = [np.random.default_rng(i).integers(0, 255, (50, 70, 3), np.uint8) for i in range(2)]
    for poses in Predictor(tmp_path / "w.onnx")(images):
        assert len(poses) <= 3
        assert (poses.xy[poses.found] <= (69, 49)).all()
