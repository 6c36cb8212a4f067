from __future__ import annotations

import pytest
import torch
from network_tester import NetworkTester

from lithepose.analysis.complexity import measure
from lithepose.networks import build

SMALL = {"transfer": 1, "refine": 1, "backbone": "mobilenet_v1"}


class TestMultilevel(NetworkTester):
    name = "multilevel"
    options = SMALL
    stages = 2


class TestWithoutContext(NetworkTester):
    name = "multilevel"
    options = SMALL | {"context": False, "joint_limb": False, "detect": 4}


@pytest.mark.parametrize("detect", [3, 4])
def test_counts_are_those_of_the_paper(detect):
    counts = measure(build("multilevel", detect=detect), 3, 368, 432)
    assert counts.conv_weights == 21_278_912
    assert round(counts.macs / 1e9, 1) == 82.5
    assert round(counts.megabytes["fp32"], 1) == 85.2


def influence(switches: dict[str, bool], branch: str, layer: int) -> bool:
    """Whether the heatmaps of the detection depend on one convolution of a branch."""
    net = build("multilevel", **SMALL, **switches)
    net(torch.randn(1, 3, 64, 64))[0][0].sum().backward()
    gradient = getattr(net, f"detect_{branch}").convs[layer][0].weight.grad
    return gradient is not None and bool(gradient.any())


@pytest.mark.parametrize(
    ("switches", "limbs"),
    [
        ({}, True),
        ({"joint_limb": False}, False),
        ({"lower": False, "upper": False}, False),
        ({"lower": False}, True),
        ({"upper": False}, True),
    ],
)
def test_switches_cut_what_they_name(switches, limbs):
    assert influence(switches, "joints", 2)
    assert influence(switches, "limbs", 1) == limbs
    upper = limbs and switches.get("upper", True)
    assert influence(switches, "limbs", 2) == upper


def test_without_context_the_detection_answers():
    net = build("multilevel", **SMALL, context=False)
    assert len(net(torch.randn(1, 3, 64, 64))) == 1
    for option in ({"detect": 5}, {"refine": 0}, {"transfer": -1}):
        (name, value), *_ = option.items()
        with pytest.raises(ValueError, match=f"{name}={value}"):
            build("multilevel", **option)
