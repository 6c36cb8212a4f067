"""Annotations as tools write them."""

from __future__ import annotations

import json
import logging

import cv2
import numpy as np
import pytest

from lithepose.data.coco import KeypointSet
from lithepose.errors import DatasetError
from lithepose.skeleton import Skeleton, mirror_pairs

JOINTS = ["top", "left_rim", "right_rim"]


def opened(folder, annotations, images=None, categories=None) -> KeypointSet:
    (folder / "images").mkdir(exist_ok=True)
    cv2.imwrite(str(folder / "images" / "1.png"), np.zeros((40, 40, 3), np.uint8))
    content = {
        "images": images or [{"id": 1, "file_name": "1.png", "width": 40, "height": 40}],
        "categories": categories or [{"id": 1, "name": "hat", "keypoints": JOINTS}],
        "annotations": annotations,
    }
    (folder / "val.json").write_text(json.dumps(content))
    return KeypointSet.open(folder)


FULL = {
    "id": 1,
    "image_id": 1,
    "category_id": 1,
    "keypoints": [10, 10, 2, 4, 30, 2, 20, 34, 1],
    "bbox": [4, 10, 16, 24],
}


@pytest.mark.parametrize(
    ("change", "expected", "said"),
    [
        ({"keypoints": []}, {"num_keypoints": 0}, "without keypoints: 1"),
        ({"keypoints": None}, {"num_keypoints": 0}, "without keypoints: 1"),
        ({"num_keypoints": 99}, {"num_keypoints": 3}, "num_keypoints corrected: 1"),
        ({"bbox": []}, {"bbox": [4, 10, 16, 24]}, "boxes computed from the keypoints: 1"),
        ({"bbox": [0, 0, 0, 0]}, {"bbox": [4, 10, 16, 24]}, "boxes computed from the keypoints: 1"),
        ({"area": 0}, {"area": pytest.approx(0.53 * 16 * 24)}, ""),
    ],
)
def test_what_a_tool_leaves_out_is_filled_in_and_reported_once(tmp_path, caplog, change, expected, said):
    with caplog.at_level(logging.WARNING):
        (record,) = opened(tmp_path, [FULL | change]).records
    assert {key: record.people[0][key] for key in expected} == expected
    assert said in caplog.text
    assert len(caplog.records) == bool(said)


def test_several_categories_of_the_same_joints_are_one(tmp_path):
    hats = [{"id": 1, "name": "hat", "keypoints": JOINTS}, {"id": 7, "name": "cap", "keypoints": JOINTS}]
    both = opened(tmp_path, [FULL, FULL | {"id": 2, "category_id": 7}], categories=[*hats, {"id": 9, "name": "box"}])
    assert len(both.records[0].people) == 2
    hats[1]["keypoints"] = ["tip"]
    with pytest.raises(DatasetError, match="categories hat, cap have different joints"):
        opened(tmp_path, [FULL], categories=hats)
    with pytest.raises(DatasetError, match="no category has keypoints"):
        opened(tmp_path, [FULL], categories=[{"id": 1, "name": "box"}])


@pytest.mark.parametrize("name", ["1.png", "./1.png", "images\\1.png", "images/1.png", "/home/me/set/images/1.png"])
def test_images_are_found_however_their_path_is_written(tmp_path, name):
    data = opened(tmp_path, [FULL], [{"id": 1, "file_name": name, "width": 40, "height": 40}])
    assert data.files.image(data.records[0].file_name).shape == (40, 40, 3)


def test_ids_may_be_words_and_annotations_of_unknown_images_are_left_out(tmp_path, caplog):
    images = [{"id": "a", "file_name": "1.png", "width": 40, "height": 40}]
    with caplog.at_level(logging.WARNING):
        (record,) = opened(tmp_path, [FULL | {"image_id": "a"}, FULL | {"image_id": "gone"}], images).records
    assert (record.id, len(record.people)) == (1, 1)
    assert "annotations of unknown images ignored: 1" in caplog.text


SPELLINGS = [
    ("left_hip", "right_hip"), ("hip_left", "hip_right"), ("l_hip", "r_hip"), ("LHip", "RHip"), ("lHip", "rHip"),
    ("Left Hip", "Right Hip"), ("hip.L", "hip.R"), ("hip-l", "hip-r"), ("HipL", "HipR"), ("L_HIP", "R_HIP"),
    ("leftHip", "rightHip"), ("lefthip", "righthip"), ("hipLeft", "hipRight"), ("F_L_Knee", "F_R_Knee"),
    ("Left", "Right"), ("front_left_paw", "front_right_paw"),
]  # fmt: skip


@pytest.mark.parametrize("pair", SPELLINGS, ids=" ".join)
def test_mirror_pairs_by_the_usual_spellings(tmp_path, pair):
    joints = [pair[1], "nose", pair[0]]
    data = opened(tmp_path, [FULL], categories=[{"id": 1, "name": "own", "keypoints": joints}])
    assert data.skeleton.flip_pairs == ((2, 0),)
    assert data.skeleton.unpaired == ()


def test_names_that_only_sound_like_sides_have_none():
    joints = ("lip", "rear", "label", "bright", "upright", "leftover", "L5", "tail", "左手", "lower_lip")
    assert mirror_pairs(joints) == ()
    assert Skeleton("own", joints).unpaired == ()


def test_mirror_pairs_may_be_stated(tmp_path):
    category = {"id": 1, "name": "own", "keypoints": ["a", "b", "c"]}
    assert opened(tmp_path, [FULL], categories=[category | {"flip_pairs": [["a", "c"]]}]).skeleton.flip_pairs == (
        (0, 2),
    )
    with pytest.raises(DatasetError, match=r"flip_pairs .*must be pairs of the category's joints by name"):
        opened(tmp_path, [FULL], categories=[category | {"flip_pairs": [["a", "x"]]}])


def test_coordinates_in_shares_of_the_image_are_refused(tmp_path):
    shares = [FULL | {"id": i, "keypoints": [0.1 * i, 0.5, 2, 0.3, 0.4, 2, 0.9, 0.2, 1]} for i in range(1, 4)]
    with pytest.raises(DatasetError, match="all joints are between 0 and 1, relative to the image size"):
        opened(tmp_path, shares)
