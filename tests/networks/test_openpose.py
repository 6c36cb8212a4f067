from __future__ import annotations

from network_tester import NetworkTester

from lithepose.analysis.complexity import measure
from lithepose.networks import build


class TestOpenPose(NetworkTester):
    name = "openpose"
    options = {"stages": 2}
    stages = 2
    sizes = [(1, 48, 64), (2, 64, 40)]


def test_counts_are_those_of_the_paper():
    counts = measure(build("openpose"), 3, 368, 432)
    assert counts.conv_weights == 52_298_816
    assert counts.parameters == 52_311_446
    assert round(counts.macs / 1e9, 1) == 159.6
