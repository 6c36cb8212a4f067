"""The embedded default: a person detector and a pose network on crops, on images that ship with the package."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import SAMPLES

import lithepose
from lithepose.media.image import read_image
from lithepose.skeleton import COCO_17


@pytest.fixture(scope="module")
def default() -> lithepose.TopDown:
    model = lithepose.load(threads=2)
    assert isinstance(model, lithepose.TopDown)
    return model


# Read off the image by eye; her knees and feet are outside of it, and the suit hides her elbows.
ASTRONAUT = {
    "nose": (226, 122),
    "left_eye": (247, 102),
    "right_eye": (204, 102),
    "left_ear": (271, 118),
    "right_ear": (181, 118),
    "left_shoulder": (342, 228),
    "right_shoulder": (118, 238),
}


def test_the_astronaut_is_one_person_with_all_visible_joints(default, astronaut):
    poses = default(astronaut)
    assert len(poses) == 1
    for joint, place in ASTRONAUT.items():
        found = poses.xy[0, COCO_17.joints.index(joint)]
        assert np.hypot(*(found - place)) < (60 if "shoulder" in joint else 25), (joint, found)
    for joint in ("left_ankle", "right_ankle"):
        assert not poses.found[0, COCO_17.joints.index(joint)], joint
    x0, y0, x1, y1 = poses.xyxy[0]
    assert x0 < 120
    assert y0 < 40
    assert x1 > 330
    assert y1 > 400


def test_the_photographer_is_one_person(default):
    poses = default(read_image(SAMPLES / "camera.jpg"))
    assert len(poses) == 1
    hip = poses.xy[0, [COCO_17.joints.index(f"{side}_hip") for side in ("left", "right")], 1]
    assert np.nanmax(hip) > 280
    nose = poses.xy[0, 0]
    assert np.hypot(*(nose - (250, 160))) < 25


def test_a_list_is_as_one_by_one_and_boxes_replace_the_detector(default, astronaut):
    camera = read_image(SAMPLES / "camera.jpg")
    for one, many in zip((default(astronaut), default(camera)), default([astronaut, camera]), strict=True):
        assert np.allclose(one.xy, many.xy, atol=0.05, equal_nan=True)
    box = default(astronaut).boxes[0]
    again = default(astronaut, [box])
    assert np.allclose(again.xy, default(astronaut).xy, atol=0.5, equal_nan=True)
    assert default([]) == []


def test_an_image_twice_as_large_has_its_joints_twice_as_far(default, astronaut):
    large = np.repeat(np.repeat(astronaut, 2, 0), 2, 1)
    small, big = default(astronaut), default(large)
    assert len(small) == len(big)
    seen = np.minimum(small.score[0], big.score[0]) > 0.5
    assert seen.sum() >= 5
    ratio = (big.xy[0, seen] + 0.5) / (small.xy[0, seen] + 0.5)
    assert np.abs(ratio - 2).max() < 0.15


def test_flip_and_size_are_options_of_load(astronaut):
    mirrored = lithepose.load(flip=True, threads=2)
    plain = lithepose.load(threads=2)(astronaut)
    assert np.nanmedian(np.abs(mirrored(astronaut).xy[0] - plain.xy[0])) < 6
    assert lithepose.load(size=256).size == 256
    with pytest.raises(ValueError, match="size 7"):
        lithepose.load(size=7)
    with pytest.raises(ValueError, match="lithe_paf runs on full images"):
        lithepose.load("lithe_paf", detector="person_detector")
    with pytest.raises(ValueError, match="not a person detector"):
        lithepose.load(detector="lithe_paf")
    with pytest.raises(ValueError, match="finds boxes of people"):
        lithepose.load("person_detector")


def test_guesses_have_all_joints_with_low_scores(default, astronaut):
    poses = default.with_config(complete=True)(astronaut)
    assert np.isfinite(poses.xy).all()
    ankle = COCO_17.joints.index("left_ankle")
    assert 0 < poses.score[0, ankle] < 0.1


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (7, 5), (64, 64), (333, 500)])
def test_odd_sizes_without_people(default, shape):
    poses = default(np.full((*shape, 3), 90, np.uint8))
    assert poses.size == shape[::-1]
    assert len(poses) == 0


def test_an_empty_room_is_empty(default):
    rng = np.random.default_rng(0)
    assert len(default(rng.integers(0, 255, (240, 320, 3)).astype(np.uint8))) == 0
