from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from lithepose.analysis.receptive_field import calibrate, covered, draw_field, find_joint, receptive_field
from lithepose.heads.heatmaps import LIP_HEAD
from lithepose.networks import build


class Known(nn.Module):
    """A network that looks at a square of 5x5 cells of 8 pixels around the cell (4, 4), and nowhere else."""

    mean = std = (127.5, 127.5, 127.5)
    multiple, head = 8, LIP_HEAD

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        cells = nn.functional.avg_pool2d(x, 8).mean(1, keepdim=True)
        mask = torch.zeros_like(cells)
        mask[..., 2:7, 2:7] = 1
        return [(cells * 0,), (cells * mask * self.weight,)]


def test_the_field_of_a_known_network():
    image = np.full((80, 96, 3), 90, np.uint8)
    change = receptive_field(Known(), image, 0, window=3, step=4, batch=7)
    assert change.shape == (20, 24)
    seen = change > 0
    rows, columns = np.mgrid[0:80:4, 0:96:4]
    inside = (rows >= 16 - 1) & (rows <= 55 + 1) & (columns >= 16 - 1) & (columns <= 55 + 1)
    assert (seen == inside).all()
    assert covered(change) == pytest.approx(inside.mean())
    drawn = draw_field(image, change)
    assert drawn.shape == image.shape
    assert drawn[36, 36, 1] > drawn[36, 36, 0] + 50
    assert (drawn[70, 80] == 90).all()
    assert not receptive_field(Known(), image, 0, stage=0).any()
    image[40:48, 16:24] = 200  # the brightest cell inside the square
    alone = receptive_field(Known(), image, 0, window=3, step=4, at="peak") > 0
    middle = receptive_field(Known(), image, 0, window=3, step=4, at="centre") > 0
    assert (middle == ((rows >= 39) & (rows <= 48) & (columns >= 47) & (columns <= 56))).all()
    assert (alone == ((rows >= 39) & (rows <= 48) & (columns >= 15) & (columns <= 24))).all()
    assert covered(np.zeros((3, 3))) == 0


def test_what_does_not_exist():
    image = np.zeros((16, 16, 3), np.uint8)
    for options, says in (
        ({"stage": 7}, "stage 7: out of range; the network has 2 stages"),
        ({"window": 4}, "window 4"),
        ({"step": 0}, "step 0"),
        ({"at": "top"}, "top"),
    ):
        with pytest.raises(ValueError, match=says):
            receptive_field(Known(), image, 0, **options)
    for joint in (16, -1):  # 16 is the background
        with pytest.raises(ValueError, match="16 joints"):
            receptive_field(Known(), image, joint)
    with pytest.raises(ValueError, match="JointRegression"):
        receptive_field(build("joint_regression"), image, 0)


def test_marks():
    image, change = np.full((64, 64, 3), 90, np.uint8), np.zeros((8, 8), np.float32)
    drawn = draw_field(image, change, (20.0, 30.0), (45.0, 30.0), (0, 0, 255))
    assert (drawn[30, 17] == 255).all()
    assert (drawn[30, 42] == (0, 0, 255)).all()
    assert (drawn[10, 10] == 90).all()
    sample = np.zeros((80, 96, 3), np.uint8)
    sample[40:48, 16:24] = 255
    assert find_joint(Known(), sample, 0) == (19.5, 43.5)


def test_drawn_where_the_windows_were():
    """One window's change is drawn around that window, however coarse the steps."""
    image, change = np.full((256, 256, 3), 90, np.uint8), np.zeros((8, 8), np.float32)
    change[2, 5] = 1
    drawn = draw_field(image, change)[..., 1].astype(float) - 90
    rows, columns = np.mgrid[:256, :256]
    assert (drawn * rows).sum() / drawn.sum() == pytest.approx(64, abs=1)
    assert (drawn * columns).sum() / drawn.sum() == pytest.approx(160, abs=1)


def test_an_untrained_network_is_calibrated_or_refused():
    torch.manual_seed(0)
    net = build("context_cpm", stages=1)
    image = np.random.default_rng(0).integers(0, 255, (128, 128, 3), np.uint8)
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight *= 0.4  # fades to nothing
    with pytest.raises(ValueError, match="rounding"):
        receptive_field(net, image, 0, step=64, at="centre")
    calibrate(net, image)
    assert receptive_field(net, image, 0, step=64, at="centre").max() > 0
