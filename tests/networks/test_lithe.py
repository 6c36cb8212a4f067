"""The default pose network: shapes, export, and joints that come back from drawn heatmaps."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from network_tester import NetworkTester

from lithepose.geometry import PersonCrop, crop_matrix
from lithepose.heads.people import LITHE_HEAD, CropHead
from lithepose.networks import build
from lithepose.networks.backbones.mobilenet import DepthwiseSeparable
from lithepose.networks.backbones.residual import conv_bn
from lithepose.networks.lithe import joint_groups, joints_from_heatmaps
from lithepose.skeleton import COCO_17, Skeleton
from lithepose.training.crops import gaussian_targets

SMALL = {"widths": (8, 16, 16, 16, 16), "depths": (1, 1, 1, 1), "width": 16}


class TestLithe(NetworkTester):
    name = "lithe"
    options = SMALL


class TestVariants(NetworkTester):
    name = "lithe"
    options = SMALL | {"block": "multi_scale", "context": True, "streams": True}


class TestBranches(NetworkTester):
    name = "lithe"
    options = SMALL | {"block": "branches"}


@pytest.mark.parametrize("backbone", ["mobilenet_v1", "efficientnet_lite0"])
def test_other_backbones_have_the_same_output(backbone):
    with torch.no_grad():
        ((maps,),) = build("lithe", backbone=backbone, width=16).eval()(torch.zeros(1, 3, 64, 96))
    assert maps.shape == (1, 17, 16, 24)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "vgg"}, "backbone='vgg'"),
        ({"block": "dense"}, "block='dense'"),
        ({"widths": (8, 8)}, r"widths=\(8, 8\)"),
    ],
)
def test_unknown_variants_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        build("lithe", **options)


def test_heads_of_another_stride_are_refused():
    with pytest.raises(ValueError, match="stride=8"):
        build("lithe", CropHead(COCO_17, COCO_17, stride=8))


def test_streams_cover_every_joint_once():
    groups = joint_groups(COCO_17.joints)
    assert [len(group) for group in groups] == [5, 6, 6]
    assert sorted(joint for group in groups for joint in group) == list(range(17))
    assert joint_groups(("tip", "tail")) == [[0, 1]]


@pytest.mark.parametrize("sigma", [1.5, 2.0])
def test_a_drawn_joint_comes_back_within_a_tenth_of_a_pixel_of_the_image(sigma):
    """Image -> crop -> target -> decoder -> image, for boxes of many sizes and joints up to the edge of the crop."""
    rng = np.random.default_rng(0)
    head = CropHead(COCO_17, COCO_17, stride=4, sigma=sigma)
    for box in ((10, 20, 100, 240), (300.5, 7.25, 50, 30), (-40, -10, 700, 900), (5, 5, 20, 20)):
        crop = PersonCrop(640, 480, crop_matrix(box, (256, 192)))
        inside = rng.uniform((0, 0), (191, 255), (17, 2))
        inside[:4] = (0, 0), (191, 255), (0.3, 254.6), (95.5, 127.5)  # corners, and between cells
        image = crop.to_image(inside)
        joints = torch.from_numpy(crop.to_input(image)[None]).float()
        maps = gaussian_targets(joints, torch.ones(1, 17), head, (64, 48))
        xy, score = joints_from_heatmaps(maps, 4, sigma)
        found = crop.to_image(xy[0].numpy())
        # A pixel of the crop where that is larger than one of the image.
        assert np.abs(found - image).max() < 0.1 / min(crop.scale_x, 1.0)
        assert score.min() > 0.85


def test_a_map_without_a_peak_scores_nothing():
    xy, score = joints_from_heatmaps(torch.zeros(1, 2, 8, 6), 4, 2.0)
    assert score.eq(0).all()
    assert xy.isfinite().all()


def test_joints_are_read_off_maps_before_a_pixel_shuffle_as_after_it():
    maps = torch.rand(2, 8, 16, 12, generator=torch.Generator().manual_seed(0))
    before, after = joints_from_heatmaps(maps, 4, 2.0, 2), joints_from_heatmaps(torch.pixel_shuffle(maps, 2), 4, 2.0)
    assert torch.allclose(before[0], after[0], atol=1e-4)
    assert torch.equal(before[1], after[1])


def test_a_single_high_cell_does_not_draw_a_joint_away():
    head = CropHead(Skeleton("one", ("a",)), Skeleton("one", ("a",)), stride=4, sigma=2.0)
    maps = gaussian_targets(torch.tensor([[[101.5, 101.5]]]), torch.ones(1, 1), head, (64, 48))
    maps[0, 0, 50, 10] = 1.2
    xy, _ = joints_from_heatmaps(maps, 4, 2.0)
    assert torch.allclose(xy, torch.tensor([101.5, 101.5]), atol=0.1)


def test_mirrored_targets_are_the_targets_of_mirrored_joints():
    joints = torch.tensor([[[10.0, 20.0], [50.25, 33.5]]])
    head = CropHead(Skeleton("two", ("a", "b")), Skeleton("two", ("a", "b")), stride=4, sigma=2.0)
    maps = gaussian_targets(joints, torch.ones(1, 2), head, (32, 24))
    mirrored = joints * torch.tensor([-1.0, 1.0]) + torch.tensor([95.0, 0.0])
    assert torch.allclose(maps.flip(3), gaussian_targets(mirrored, torch.ones(1, 2), head, (32, 24)), atol=1e-6)


def test_invisible_joints_have_empty_targets():
    maps = gaussian_targets(torch.full((1, 17, 2), 50.0), torch.zeros(1, 17), LITHE_HEAD, (64, 48))
    assert maps.eq(0).all()


@pytest.mark.parametrize("layer", [conv_bn(3, 8), DepthwiseSeparable(3, 8, stride=2), DepthwiseSeparable(3, 8)])
def test_folded_batch_norm_is_that_of_evaluation_and_trains_scale_and_shift(layer):
    torch.manual_seed(0)
    layer.train()(torch.randn(16, 3, 12, 12) * 2 + 1)  # statistics of its own
    norms = [part for part in layer if isinstance(part, torch.nn.BatchNorm2d)]
    for norm in norms:
        torch.nn.init.uniform_(norm.weight, 0.5, 2)
        torch.nn.init.uniform_(norm.bias, -1, 1)
    x = torch.randn(2, 3, 12, 12)
    expected = layer.eval()(x)
    before = [norm.running_mean.clone() for norm in norms]
    layer.train().folded = True
    output = layer(x)
    assert torch.allclose(output, expected, atol=1e-5)
    assert all(torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    output.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())
