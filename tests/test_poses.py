from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithepose.poses import CSV_COLUMNS, Poses
from lithepose.skeleton import COCO_17, OPENPOSE_18


@st.composite
def results(draw) -> Poses:
    n = draw(st.integers(0, 4))
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    score = rng.uniform(0.01, 1, (n, 17)).astype(np.float32) * (rng.random((n, 17)) < 0.8)
    xy = np.where(score[..., None] > 0, rng.uniform(0, 600, (n, 17, 2)), np.nan).astype(np.float32)
    return Poses(xy, score, np.sort(rng.random(n).astype(np.float32))[::-1], COCO_17, (640, 480))


def same(a: Poses, b: Poses, digits: float) -> None:
    assert a.joints == b.joints
    assert a.size == b.size
    assert (a.found == b.found).all()
    assert np.allclose(a.xy[a.found], b.xy[b.found], atol=digits)
    assert np.isnan(b.xy[~b.found]).all()
    assert np.allclose(a.score, b.score, atol=1e-3)


@given(poses=results())
def test_json_comes_back(poses):
    back = Poses.from_dict(json.loads(json.dumps(poses.to_dict(), allow_nan=False)))
    same(poses, back, 0.006)
    assert np.allclose(poses.person_score, back.person_score, atol=1e-4)


@given(poses=results())
def test_coco_comes_back(poses):
    found = poses.to_coco(7)
    json.dumps(found, allow_nan=False)
    assert all(r["image_id"] == 7 and len(r["keypoints"]) == 51 for r in found)
    same(poses, Poses.from_coco(found, poses.size), 0.0006)


@given(poses=results())
def test_openpose_comes_back(poses):
    with_neck = poses.to_skeleton(OPENPOSE_18)
    data = json.loads(json.dumps(poses.to_openpose(), allow_nan=False))
    same(with_neck, Poses.from_openpose(data, poses.size), 0.0006)
    same(poses, with_neck.to_skeleton(COCO_17), 0)


def test_neck_is_between_the_shoulders():
    xy = np.zeros((1, 17, 2), np.float32)
    xy[0, 5], xy[0, 6] = (10, 20), (30, 24)
    neck = Poses(xy, np.ones((1, 17), np.float32), np.ones(1, np.float32), COCO_17, (64, 64)).to_skeleton(OPENPOSE_18)
    assert neck.xy[0, 1].tolist() == [20, 22]


@given(poses=results())
def test_csv_rows_name_joints(poses):
    text = io.StringIO()
    csv.writer(text).writerows([CSV_COLUMNS, *poses.to_rows("a,b.jpg", 3, 0.1)])
    rows = list(csv.DictReader(io.StringIO(text.getvalue())))
    assert len(rows) == poses.found.sum()
    for row in rows:
        person, joint = int(row["person"]), COCO_17.joints.index(row["joint"])
        assert row["source"] == "a,b.jpg"
        assert abs(float(row["x"]) - poses.xy[person, joint, 0]) < 0.006


@given(poses=results())
def test_boxes_hold_the_found_joints(poses):
    for box, xy, found in zip(poses.boxes, poses.xy, poses.found, strict=True):
        if found.any():
            inside = xy[found]
            assert np.allclose(box[:2], inside.min(0))
            assert np.allclose(box[:2] + box[2:], inside.max(0), atol=1e-3)
        else:
            assert not box.any()


def test_choosing_people():
    poses = Poses(np.zeros((3, 17, 2)), np.ones((3, 17)), np.array([0.9, 0.5, 0.2]), COCO_17, (9, 9))
    assert len(poses[0]) == len(poses[-1]) == 1
    assert poses[-1].person_score.tolist() == [0.2]
    assert poses[poses.person_score > 0.3].person_score.tolist() == [0.9, 0.5]
    assert [p.person_score.item() for p in poses] == [0.9, 0.5, 0.2]
    with pytest.raises(IndexError):
        poses[3]
    assert len(Poses.empty(COCO_17, (9, 9))) == 0


def test_supervision_takes_them():
    supervision = pytest.importorskip("supervision")
    xy = np.full((2, 17, 2), 5, np.float32)
    points = Poses(xy, np.ones((2, 17), np.float32), np.ones(2, np.float32), COCO_17, (64, 64)).to_supervision()
    image = np.zeros((64, 64, 3), np.uint8)
    assert supervision.VertexAnnotator().annotate(image, points).any()


def test_wrong_data_is_refused():
    with pytest.raises(ValueError, match="2 people of 17"):
        Poses(np.zeros((2, 16, 2)), np.zeros((2, 16)), np.zeros(2), COCO_17, (1, 1))
    with pytest.raises(ValueError, match="skeleton"):
        Poses.from_dict({"people": []})
    with pytest.raises(ValueError, match="18 joints"):
        Poses.from_openpose({"people": [{"pose_keypoints_2d": [0] * 75}]}, (1, 1))
