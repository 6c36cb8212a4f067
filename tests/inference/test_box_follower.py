"""Boxes that follow people through a video, and when the detector runs."""

from __future__ import annotations

import numpy as np
import pytest

from lithepose.heads.boxes import BoxHead
from lithepose.heads.outputs import Boxes, Found
from lithepose.heads.people import LITHE_HEAD
from lithepose.inference.box_follower import BoxFollower, moved_box
from lithepose.inference.detector import PersonDetector
from lithepose.inference.predictor import Predictor
from lithepose.inference.top_down import TopDown
from lithepose.media.sources import Frame
from lithepose.runtime.base import ModelInfo
from lithepose.skeleton import COCO_17

SIZE = 320, 256
# Joints of everybody relative to the marker in the middle of the body, in pixels.
OFFSETS = np.stack([np.linspace(-15, 15, 17), np.linspace(-40, 40, 17)], 1)


def scene(places):
    image = np.full((SIZE[1], SIZE[0], 3), 60, np.uint8)
    for x, y in places:
        image[round(y) - 2 : round(y) + 3, round(x) - 2 : round(x) + 3] = 255, 0, 0
    return image


class MarkerDetector:
    """Boxes of 40x100 pixels around every red marker."""

    info = ModelInfo("markers", BoxHead(), 32, 320)

    def __init__(self):
        self.calls = 0

    def __call__(self, images):
        self.calls += 1
        found = []
        for image in images:
            red = (image[..., 0].astype(int) - image[..., 1]) > 150
            places = [np.argwhere(red)[:, ::-1]] if red.any() else []
            centres = []
            for points in places:
                while len(points):
                    near = np.abs(points - points[0]).max(1) < 12
                    centres.append(points[near].mean(0))
                    points = points[~near]
            boxes = np.array([[x - 20, y - 50, x + 20, y + 50] for x, y in centres], np.float32).reshape(-1, 4)
            found.append(Boxes(boxes + 0.5, np.full(len(boxes), 0.9, np.float32)))
        return found


class MarkerPose:
    """All joints at fixed offsets from the red marker nearest to the middle of the crop; unsure where there is none."""

    info = ModelInfo("marker_pose", LITHE_HEAD, 32, 256, crop=(256, 192))

    def __call__(self, images):
        found = []
        for image in images:
            red = np.argwhere((image[..., 0].astype(int) - image[..., 1]) > 120)[:, ::-1]
            middle = np.array([95.5, 127.5])
            if len(red):
                nearest = red[np.abs(red - middle).sum(1).argmin()]
                centre = red[np.abs(red - nearest).max(1) < 15].mean(0)
            else:
                centre = middle
            scale = 256 / 125  # a box of 100 pixels with its margin fills the crop
            xy = (centre + OFFSETS * scale)[None].astype(np.float32)
            score = np.full((1, 17), 0.9 if len(red) else 0.25, np.float32)
            found.append(Found(xy, score, score.mean(1)))
        return found


def estimators(every=5):
    detector = MarkerDetector()
    top_down = TopDown(Predictor(MarkerPose()), PersonDetector(detector), detect_every=every)
    return top_down, detector


def test_people_are_followed_and_the_detector_rests():
    top_down, detector = estimators()
    follow = BoxFollower(top_down)
    for t in range(21):
        places = [(60 + 3 * t, 100), (250 - 2 * t, 150)]
        poses = follow(scene(places))
        middles = sorted(poses.xy.mean(1).round().tolist())
        assert np.allclose(middles, sorted(map(list, places)), atol=1.5), t
    assert detector.calls == follow.detections == 5


def test_somebody_who_enters_is_found_within_the_interval():
    top_down, _ = estimators(every=4)
    follow = BoxFollower(top_down)
    counts = [len(follow(scene([(60, 100)] + [(200, 120)] * (t >= 2)))) for t in range(8)]
    assert counts[:2] == [1, 1]
    assert counts[4:] == [2] * 4


def test_somebody_who_enters_brings_the_detector_and_a_moving_camera_at_most_every_fifth_frame():
    top_down, detector = estimators(every=100)
    follow = BoxFollower(top_down)
    counts = [len(follow(scene([(60, 100)] + [(200, 120)] * (t >= 8)))) for t in range(12)]
    assert counts == [1] * 8 + [2] * 4
    assert detector.calls == 2
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 150, (8, 10, 3)).astype(np.uint8)
    follow, before = BoxFollower(top_down), detector.calls
    for t in range(20):
        moving = np.repeat(np.repeat(np.roll(noise, t, 1), 32, 0), 32, 1)
        moving[..., 1] = moving[..., 0]  # nothing red
        follow(moving)
    assert detector.calls - before == 4


def test_noise_of_a_camera_is_no_change():
    top_down, detector = estimators(every=100)
    follow, rng = BoxFollower(top_down), np.random.default_rng(0)
    for _ in range(15):
        follow((scene([(60, 100)]) + rng.normal(0, 6, (SIZE[1], SIZE[0], 3))).clip(0, 255).astype(np.uint8))
    assert detector.calls == 1


def test_somebody_lost_brings_the_detector_back():
    top_down, detector = estimators(every=50)
    follow = BoxFollower(top_down)
    for _ in range(3):
        follow(scene([(60, 100), (200, 120)]))
    assert detector.calls == 1
    follow(scene([(60, 100)]))
    poses = follow(scene([(60, 100)]))
    assert detector.calls == 2
    assert len(poses) == 1


def test_a_lost_person_does_not_move_the_frames_of_detection():
    """So a video that is cut at one of them gives the same people as in one piece."""
    top_down, _ = estimators(every=4)
    frames = [scene([(60 + 3 * t, 100)] + [(200, 120)] * (t < 1)) for t in range(12)]
    follow, counts, whole = BoxFollower(top_down), [], []
    for frame in frames:
        whole.append(follow(frame))
        counts.append(follow.detections)
    assert counts == [1, 1, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4]
    part = BoxFollower(top_down)
    for poses, frame in zip(whole[4:], frames[4:], strict=True):
        assert np.array_equal(part(frame).xy, poses.xy)


def test_nobody_is_nobody_and_found_again():
    top_down, detector = estimators(every=3)
    follow = BoxFollower(top_down)
    assert [len(follow(scene([]))) for _ in range(4)] == [0] * 4
    assert detector.calls == 2
    follow(scene([(100, 100)]))
    assert [len(follow(scene([(100, 100)]))) for _ in range(3)] == [0, 1, 1]


def test_every_video_begins_anew_and_images_stand_alone():
    top_down, detector = estimators(every=50)
    run = top_down.pipeline().run
    for source, index, calls in (
        ("a.mp4", 0, 1),
        ("a.mp4", 1, 1),
        ("b.mp4", 0, 2),
        ("b.mp4", 1, 2),
        ("x.png", None, 3),
    ):
        run(Frame(scene([(60, 100)]), source, index))
        assert detector.calls == calls


def test_the_stream_of_a_video_detects_now_and_then(tmp_path):
    from lithepose.writers.video import VideoWriter

    top_down, detector = estimators(every=4)
    with VideoWriter(tmp_path / "x.mp4", 10) as video:
        for t in range(9):
            video.write(scene([(60 + 2 * t, 100)]), t / 10)
    frames = list(top_down.stream(tmp_path / "x.mp4", track=True))
    assert [len(frame.poses) for frame in frames] == [1] * 9
    assert len({int(frame.poses.id[0]) for frame in frames}) == 1
    assert detector.calls == 3


def test_boxes_move_and_grow_with_the_joints():
    rng = np.random.default_rng(0)
    before = rng.uniform(20, 80, (17, 2))
    score = np.ones(17)
    box = np.array([10.0, 10.0, 80.0, 80.0])
    moved = moved_box(box, before, score, before + np.array([5, -3]), score)
    assert np.allclose(moved, box + np.array([5, -3, 0, 0]))
    centre = before.mean(0)
    grown = moved_box(box, before, score, centre + 1.2 * (before - centre), score)
    assert np.allclose(grown[2:], 96)
    unseen = moved_box(box, before, score, np.full((17, 2), np.nan), np.zeros(17))
    assert np.array_equal(unseen, box)
    far = before.copy()
    far[0] = 300, 300
    assert (moved_box(box, before, score, far, score)[:2] + moved_box(box, before, score, far, score)[2:] >= 300).all()


def test_boxes_come_out_with_the_poses_and_duplicates_do_not():
    top_down, _ = estimators()
    image = scene([(60, 100), (200, 120)])
    poses = top_down(image)
    boxes = poses.xyxy[np.argsort(poses.xyxy[:, 0])]
    assert np.allclose(boxes, [[40.5, 50.5, 80.5, 150.5], [180.5, 70.5, 220.5, 170.5]], atol=0.6)
    assert poses.joints == COCO_17.joints
    twice = top_down(image, [(40, 50, 40, 100), (42, 51, 40, 100), (180, 70, 40, 100)])
    assert len(twice) == 2
    assert poses[:1].xyxy.shape == (1, 4)


def test_two_hundred_people_and_none():
    top_down, _ = estimators()
    image = scene([(60, 100)])
    rng = np.random.default_rng(0)
    boxes = np.concatenate([rng.uniform(0, 250, (200, 2)), rng.uniform(1, 80, (200, 2))], 1)
    assert 1 <= len(top_down(image, boxes)) < 200  # duplicates go
    assert len(top_down(image, [])) == 0
    assert len(top_down(np.zeros((1, 1, 3), np.uint8))) == 0
    with pytest.raises(ValueError, match="outside the image"):
        top_down(image, [(900, 900, 5, 5)])
