from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from network_tester import NetworkTester

from lithepose.analysis.complexity import measure
from lithepose.networks import build
from lithepose.networks.context_cpm import area_pool, make_context

SIZES = [(1, 128, 128), (2, 128, 160)]


class TestUShaped(NetworkTester):
    name = "context_cpm"
    options = {"stages": 2}
    stages = 2
    sizes = SIZES


class TestPyramidBehindTheFront(NetworkTester):
    name = "context_cpm"
    options = {"stages": 2, "context": "pyramid", "context_at": "backbone"}
    stages = 2
    sizes = SIZES


class TestAtrousAtStride4(NetworkTester):
    name = "context_cpm"
    options = {"stages": 2, "context": "aspp", "stride": 4}
    stages = 2
    sizes = [(1, 64, 64), (2, 48, 64)]


class TestBaseline(NetworkTester):
    name = "context_cpm"
    options = {"stages": 2, "context": "none"}
    stages = 2
    sizes = SIZES


@pytest.mark.parametrize(
    ("context", "stages", "stride", "parameters", "macs"),
    [
        ("none", 2, 8, 4_564_578, 4_783_210_496),
        ("none", 6, 8, 8_394_406, 8_693_350_400),
        ("unet", 2, 8, 11_004_753, 7_302_173_696),
        ("unet", 6, 8, 40_595_281, 21_288_166_400),
        ("aspp", 6, 8, 56_034_726, 57_431_162_880),
        ("pyramid", 6, 8, 9_383_206, 9_007_677_440),
        ("unet", 6, 4, 40_595_281, 84_672_155_648),
    ],
)
def test_counts(context, stages, stride, parameters, macs):
    counts = measure(build("context_cpm", context=context, stages=stages, stride=stride), 3, 256, 256)
    assert (counts.parameters, counts.macs) == (parameters, macs)


@pytest.mark.parametrize(
    ("context", "column", "millions", "billions", "paper"),
    [
        ("unet", "parameters", 6.44, 2.52, 2.53),
        ("aspp", "conv_weights", 9.52, 9.75, 9.75),
        ("pyramid", "parameters", 0.20, 0.07, 0.07),
    ],
)
def test_modules_are_close_to_those_of_the_paper(context, column, millions, billions, paper):
    counts = measure(make_context(context, 145)[0], 145, 32, 32)
    assert round(getattr(counts, column) / 1e6, 2) == millions
    assert round(counts.macs / 1e9, 2) == billions
    assert abs(billions - paper) <= 0.01 + 1e-9


def test_context_sees_the_whole_image_and_the_baseline_does_not():
    """The gradient of one cell of the second stage's map, over the first stage's features."""
    reach = {}
    for context in ("none", "unet"):
        torch.manual_seed(0)
        stage = build("context_cpm", stages=2, context=context).refinements[0].eval()
        x = torch.randn(1, 145, 32, 32, requires_grad=True)
        stage(x)[0, :, 16, 16].sum().backward()
        reach[context] = (x.grad.abs().sum(1) > 0).float().mean().item()
    assert reach["none"] < 0.5 < 0.99 < reach["unet"]


@pytest.mark.parametrize(("height", "width"), [(32, 16), (20, 36), (12, 8)])
def test_pyramid_pooling_loses_nothing(height, width):
    """On multiples it is average pooling; on any size its mean is the map's, and a constant stays one."""
    x = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))
    for cells in (2, 4, 8, 16):
        pooled = area_pool(x, cells)
        assert pooled.shape == (2, 3, cells, cells)
        assert torch.allclose(pooled.mean((2, 3)), x.mean((2, 3)), atol=1e-5)
        assert torch.allclose(area_pool(torch.ones_like(x), cells), torch.ones(2, 3, cells, cells))
        if height % cells == width % cells == 0:
            expected = F.avg_pool2d(x, (height // cells, width // cells))
            assert torch.allclose(pooled, expected, atol=1e-5)


def test_unknown_options():
    for options in ({"context": "vee"}, {"context_at": "end"}, {"stages": 0}, {"stride": 2}, {"act": "tanh"}):
        with pytest.raises(ValueError, match=str(next(iter(options.values())))):
            build("context_cpm", **options)
