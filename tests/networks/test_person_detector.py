"""The person detector: shapes and export, assignment of people to cells, loss, boxes out."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from network_tester import NetworkTester

from lithepose.heads.boxes import BoxHead, box_iou, decode_boxes, pose_likeness
from lithepose.heads.outputs import Boxes
from lithepose.heads.pafs import COCO_HEAD
from lithepose.inference.detector import PersonDetector
from lithepose.networks import build
from lithepose.runtime.base import ModelInfo
from lithepose.skeleton import COCO_17
from lithepose.training.detection import assign, detection_loss, iou_pairs

SMALL = {"widths": (8, 16, 16, 16, 16), "depths": (1, 1, 1, 1), "width": 16, "convs": 1}


class TestPersonDetector(NetworkTester):
    name = "person_detector"
    options = SMALL

    def outputs(self, net, x):
        with torch.no_grad():
            return list(net.eval()(x))

    def loss(self, net):
        logits, boxes = net.train()(self.image(-1))
        return logits.square().mean() + boxes.square().mean()

    def shapes(self, net, n, h, w):
        cells = sum(h * w // stride**2 for stride in net.head.strides)
        return [(n, cells), (n, cells, 4)]


def cells(height=64, width=96):
    return build("person_detector", **SMALL).cells(height, width)


def test_cells_lie_where_their_strides_say():
    centres, strides = cells()
    assert len(centres) == 8 * 12 + 4 * 6 + 2 * 3
    assert centres[0].tolist() == [3.5, 3.5]
    assert centres[-1].tolist() == [79.5, 47.5]
    assert strides.unique().tolist() == [8, 16, 32]


@pytest.mark.parametrize(
    "box", [(10.0, 10.0, 14.0, 13.0), (8.0, 4.0, 60.0, 60.0), (0.0, 0.0, 96.0, 64.0), (40.0, 20.0, 47.0, 44.0)]
)
def test_everybody_gets_cells_small_or_large(box):
    centres, strides = cells()
    people = torch.tensor([[box]])
    boxes = torch.cat([centres - 8, centres + 8], 1)[None]
    person, target = assign(torch.full((1, len(centres)), 0.1), boxes, people, torch.tensor([1]), centres, strides)
    assert 1 <= (person == 0).sum() <= 9
    assert target[person == 0].max() == pytest.approx(float(iou_pairs(boxes, people)[0][person == 0].max()), abs=1e-5)
    assert target[person < 0].eq(0).all()


def test_a_cell_that_two_people_want_goes_to_the_better_box():
    centres, strides = cells()
    people = torch.tensor([[[20.0, 10.0, 60.0, 50.0], [24.0, 10.0, 64.0, 50.0]]])
    boxes = people[:, :1].expand(1, len(centres), 4)  # every cell predicts the first person
    person, _ = assign(torch.full((1, len(centres)), 0.5), boxes, people, torch.tensor([2]), centres, strides)
    assert set(person.unique().tolist()) <= {-1, 0, 1}
    assert (person == 0).any()
    assert (person == 0).sum() >= (person == 1).sum()


def test_padding_is_nobody():
    centres, strides = cells()
    boxes = torch.cat([centres - 8, centres + 8], 1)[None]
    people = torch.tensor([[[0.0, 0.0, 96.0, 64.0]]])
    person, _ = assign(torch.full((1, len(centres)), 0.5), boxes, people, torch.tensor([0]), centres, strides)
    assert person.eq(-1).all()


def batch(boxes, ignore=()):
    return {
        "boxes": torch.tensor([boxes or [[0.0] * 4]]),
        "count": torch.tensor([len(boxes)]),
        "ignore": torch.tensor([list(ignore) or [[0.0] * 4]]),
    }


def test_perfect_predictions_lose_nothing_and_wrong_ones_much():
    centres, strides = cells()
    box = [8.0, 8.0, 56.0, 56.0]
    right = torch.tensor(box).expand(1, len(centres), 4)
    person, target = assign(
        torch.full((1, len(centres)), 0.5), right, torch.tensor([[box]]), torch.tensor([1]), centres, strides
    )
    sure = torch.where(person == 0, torch.logit(target.clamp(1e-4, 1 - 1e-4)), torch.tensor(-12.0))
    good = detection_loss(sure, right, batch([box]), centres, strides)
    bad = detection_loss(-sure, right + 20, batch([box]), centres, strides)
    assert good["total"] < 0.2
    assert bad["total"] > 5 * good["total"] + 1


def test_masked_regions_add_no_loss():
    centres, strides = cells()
    logits = torch.full((1, len(centres)), 2.0)  # people everywhere
    boxes = torch.cat([centres - 8, centres + 8], 1)[None]
    free = detection_loss(logits, boxes, batch([]), centres, strides)["total"]
    masked = detection_loss(logits, boxes, batch([], [[0.0, 0.0, 96.0, 64.0]]), centres, strides)["total"]
    assert free > 1
    assert masked == 0


def test_generalized_iou_of_known_boxes():
    a = torch.tensor([0.0, 0.0, 2.0, 2.0])
    b = torch.tensor([1.0, 0.0, 3.0, 2.0])
    iou, giou = iou_pairs(a, b)
    assert float(iou) == pytest.approx(1 / 3)
    assert float(giou) == pytest.approx(1 / 3)  # the hull is the union
    assert float(iou_pairs(a, a + 4)[1]) == pytest.approx(-(36 - 8) / 36)


def test_duplicates_are_dropped_and_the_rest_kept_in_order():
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [20, 0, 30, 10], [0, 0, 0, 5], [5, 5, np.nan, 9]], np.float32)
    found = decode_boxes(boxes, np.array([0.9, 0.8, 0.7, 0.6, 0.5], np.float32), 0.3, 0.6)
    assert found.xyxy.tolist() == [[0, 0, 10, 10], [20, 0, 30, 10]]
    assert found.score.tolist() == pytest.approx([0.9, 0.7])
    assert decode_boxes(boxes, np.zeros(5, np.float32), 0.3, 0.6).xywh.shape == (0, 4)


def test_iou_of_boxes():
    a = np.array([[0, 0, 2, 2], [0, 0, 1, 1]], float)
    assert box_iou(a, a).round(3).tolist() == [[1, 0.25], [0.25, 1]]


def test_likeness_of_poses():
    rng = np.random.default_rng(0)
    one = rng.uniform(0, 100, (17, 2))
    xy = np.stack([one, one + 0.5, one + 60])
    alike = pose_likeness(xy, np.ones((3, 17)), np.full(3, 1e4), COCO_17)
    assert alike[0, 1] > 0.9
    assert alike[0, 2] < 0.1
    assert np.allclose(np.diag(alike), 1)


class Fixed:
    """A runtime that predicts the same boxes for every image."""

    info = ModelInfo("fixed", BoxHead(), 32, 64)

    def __call__(self, images):
        boxes = np.array([[0, 0, 32, 48], [60, -5, 70, 20]], np.float32)
        return [Boxes(boxes, np.array([0.9, 0.5], np.float32)) for _ in images]


def test_boxes_come_back_in_pixels_of_the_image_and_inside_it():
    detector = PersonDetector(Fixed())
    found = detector(np.zeros((96, 128, 3), np.uint8))  # twice the input
    assert np.allclose(found.xyxy, [[0, 0, 64, 96], [120, 0, 128, 40]], atol=1e-4)
    assert repr(detector) == "<PersonDetector fixed, longer side 64>"


def test_a_pose_model_is_no_detector():
    fixed = Fixed()
    fixed.info = ModelInfo("maps", COCO_HEAD, 64, 64)
    with pytest.raises(ValueError, match="maps: not a person detector"):
        PersonDetector(fixed)
    with pytest.raises(ValueError, match="size 7"):
        PersonDetector(Fixed(), size=7)


def test_information_of_a_detector_goes_through_json():
    info = ModelInfo("person_detector", BoxHead(), 32, 320)
    assert ModelInfo.from_json(info.to_json()) == info
    with pytest.raises(ValueError, match="not joints"):
        _ = info.joints_head
