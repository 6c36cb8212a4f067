from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithepose.media.image import read_image
from lithepose.poses import Poses
from lithepose.poses.tables import CSV_COLUMNS
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
    assert [p.person_score for p in poses] == [0.9, 0.5, 0.2]
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
    with pytest.raises(ValueError, match="18 or 25 joints"):
        Poses.from_openpose({"people": [{"pose_keypoints_2d": [0] * 63}]}, (1, 1))


def two() -> Poses:
    """A large sure person on the right and a small doubtful one on the left."""
    xy = np.stack([np.linspace((400, 20), (600, 460), 17), np.linspace((10, 200), (60, 300), 17)]).astype(np.float32)
    score = np.full((2, 17), 0.9, np.float32)
    score[1, 9], xy[1, 9] = 0, np.nan
    return Poses(xy, score, np.array([0.9, 0.5], np.float32), COCO_17, (640, 480), np.array([4, 2]))


def test_people_one_by_one():
    large, small = two()
    assert large["nose"] == (400, 20, pytest.approx(0.9))
    assert small.visible.tolist() == [k != 9 for k in range(17)]
    assert np.isnan(small["left_wrist"].x)
    assert small["left_wrist"].score == 0
    assert (large.id, small.id, large.xy.shape, large.box.shape) == (4, 2, (17, 2), (4,))
    with pytest.raises(KeyError, match="unknown joint 'wrist'; choose one of nose"):
        large["wrist"]


@pytest.mark.parametrize(("key", "first"), [("score", 4), ("area", 4), ("x", 4), ("y", 2), ("id", 4)])
def test_people_in_another_order(key, first):
    assert two().sorted_by(key).id[0] == first
    assert two().sorted_by(key, descending=False).id[1] == first
    with pytest.raises(ValueError, match=r"sorted_by.'size'.: unknown key; choose one of score, area"):
        two().sorted_by("size")


def test_boxes_and_joints_in_other_units():
    poses = two()
    assert poses.xywh[0] == pytest.approx([400, 20, 200, 440])
    assert poses.xyxy[0] == pytest.approx([400, 20, 600, 460])
    assert poses.xyn[0, 0] == pytest.approx([400.5 / 640, 20.5 / 480])
    assert poses.to_numpy().shape == (2, 17, 3)
    assert json.loads(poses.to_json())["people"][1]["id"] == 2


def test_tables_for_pandas():
    pytest.importorskip("pandas")
    long, wide = two().to_pandas(), two().to_pandas(wide=True)
    assert len(long) == 33
    assert set(long.columns) == {"person", "person_score", "joint", "x", "y", "score", "id"}
    assert wide.shape == (2, 2 + 3 * 17)
    assert wide["nose_x"].tolist() == [400, 10]
    assert wide["left_wrist_x"].isna().tolist() == [False, True]


def test_drawings_of_themselves(tmp_path):
    poses = two()
    drawn = poses.plot()
    assert drawn.shape == (480, 640, 3)
    assert (drawn != 127).any()
    black = np.zeros((480, 640, 3), np.uint8)
    assert (poses.plot(black)[:100, :100] == 0).all()
    poses.save(tmp_path / "drawn.png", black)
    assert np.array_equal(read_image(tmp_path / "drawn.png"), poses.plot(black))
    assert poses._repr_png_()[:4] == b"\x89PNG"
    with pytest.raises(ValueError, match=r"drawn\.xyz: .*use \.jpg or \.png"):
        poses.save(tmp_path / "drawn.xyz")


def test_results_of_other_forms_are_refused():
    for wrong in ([{"score": 1}], [{"keypoints": [0] * 51}], [{"keypoints": [0] * 9, "score": 1}]):
        with pytest.raises(ValueError, match="not COCO keypoint results"):
            Poses.from_coco(wrong, (9, 9))
    for wrong in ({}, {"people": [{}]}):
        with pytest.raises(ValueError, match="not a valid OpenPose JSON"):
            Poses.from_openpose(wrong, (9, 9))
