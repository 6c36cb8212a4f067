"""Which people are kept."""

from __future__ import annotations

import numpy as np
import pytest

from lithepose.errors import ConfigError
from lithepose.media.sources import Frame
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17
from lithepose.tracking.selection import SelectConfig, Selection

BOXES = np.float32([[0, 0, 10, 10], [50, 50, 40, 40], [80, 0, 20, 20]])


def people(ids: list[int] | None = None, boxes: np.ndarray = BOXES) -> Poses:
    n = len(boxes)
    score = np.linspace(0.9, 0.3, n).astype(np.float32)
    number = None if ids is None else np.array(ids)
    return Poses(np.zeros((n, 17, 2), "f4"), np.ones((n, 17), "f4"), score, COCO_17, (100, 100), number, boxes)


def frame(index: int | None = None, time: float | None = None) -> Frame:
    return Frame(np.zeros((1, 1, 3), np.uint8), "a", index, time)


def kept(config: SelectConfig, poses: Poses) -> list[list[float]]:
    return Selection(config)(frame(), poses).boxes.tolist()


def test_by_score_number_and_region():
    assert kept(SelectConfig(), people()) == BOXES.tolist()
    assert kept(SelectConfig(min_score=0.5), people()) == BOXES[:2].tolist()
    assert kept(SelectConfig(most=1), people()) == BOXES[:1].tolist()
    assert kept(SelectConfig(region=(40, 0, 60, 40)), people()) == BOXES[2:].tolist()
    assert kept(SelectConfig(region=(40, 0, 60, 40)), people(boxes=BOXES[:0])) == []


def test_by_id():
    assert kept(SelectConfig(person="7"), people([3, 7, -1])) == BOXES[1:2].tolist()
    assert kept(SelectConfig(person="7"), people()) == []


def test_the_main_person_of_an_image_is_the_largest():
    assert kept(SelectConfig(person="main"), people()) == BOXES[1:2].tolist()
    assert kept(SelectConfig(person="main"), people(boxes=BOXES[:0])) == []


def test_the_main_person_of_a_video_stays_until_it_is_long_gone():
    selection = Selection(SelectConfig(person="main"))
    swapped = BOXES[[1, 0, 2]]
    assert selection(frame(0, 0.0), people([1, 2, 3])).id.tolist() == [2]
    assert selection(frame(1, 0.1), people([1, 2, 3], swapped)).id.tolist() == [2]
    assert not len(selection(frame(2, 0.2), people([1, 4, 3])))
    assert not len(selection(frame(3, 1.9), people([1, 4, 3])))
    assert selection(frame(4, 2.2), people([1, 4, 3])).id.tolist() == [4]
    assert selection(frame(0, 0.0), people([1, 2, 3])).id.tolist() == [2]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"min_score": 1.0}, "lowest score"),
        ({"most": -1}, "number of people -1"),
        ({"person": "best"}, "must be main"),
        ({"region": (0, 0, 0, 5)}, "region"),
    ],
)
def test_what_cannot_be_selected(options, why):
    with pytest.raises(ConfigError, match=why):
        SelectConfig(**options)
