"""Tiny data sets written as their authors publish them, and read back."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from lithepose.data.formats import open_dataset
from lithepose.skeleton import FLIC_11, LIP_16, LSP_14, MPII_16

scipy_io = pytest.importorskip("scipy.io")


def image(path: Path, grey: int = 99) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((40, 60, 3), grey, np.uint8))


def joints_of(person: dict) -> np.ndarray:
    return np.array(person["keypoints"]).reshape(-1, 3)


def structs(rows: list[dict]) -> np.ndarray:
    """A MATLAB struct array of one row."""
    out = np.empty((1, len(rows)), [(name, object) for name in rows[0]])
    for i, row in enumerate(rows):
        out[0, i] = tuple(row.values())
    return out


def test_coco_as_published(tmp_path):
    image(tmp_path / "val2017" / "000000000007.jpg", 50)
    image(tmp_path / "train2017" / "000000000007.jpg", 200)
    content = {
        "images": [{"id": 7, "file_name": "000000000007.jpg", "width": 60, "height": 40}],
        "annotations": [
            {"id": 1, "image_id": 7, "keypoints": [5, 6, 2, 0, 0, 0], "bbox": [1, 2, 30, 20], "area": 300, "iscrowd": 0}
        ],
        "categories": [{"id": 1, "name": "person", "keypoints": ["left_tip", "right_tip"], "sigmas": [0.1, 0.2]}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "person_keypoints_val2017.json").write_text(json.dumps(content))
    data = open_dataset(tmp_path, "val")
    assert data.records[0].people[0]["num_keypoints"] == 1
    assert data.skeleton.sigmas == (0.1, 0.2)
    assert data.skeleton.flip_pairs == ((0, 1),)
    assert data.files.image(data.records[0].file_name)[0, 0, 0] == pytest.approx(50, abs=2)


def test_lip_single_person(tmp_path):
    row = ["77_471474.jpg"]
    for i in range(16):
        row += ["nan"] * 3 if i == 2 else [str(i), str(10 + 2 * i), "1" if i == 5 else "0"]
    (tmp_path / "TrainVal_pose_annotations").mkdir()
    (tmp_path / "TrainVal_pose_annotations" / "lip_val_set.csv").write_text(",".join(row) + "\n")
    image(tmp_path / "TrainVal_images" / "val_images" / "77_471474.jpg")
    with tarfile.open(tmp_path / "lip.tar", "w") as tar:
        for part in ("TrainVal_pose_annotations", "TrainVal_images"):
            tar.add(tmp_path / part, part)
    for where in (tmp_path, tmp_path / "lip.tar"):
        data = open_dataset(where, "val")
        assert data.skeleton == LIP_16
        (record,) = data.records
        (person,) = record.people
        joints = joints_of(person)
        assert joints[2].tolist() == [0, 0, 0]
        assert joints[4].tolist() == [4, 18, 2]
        assert joints[5].tolist() == [5, 20, 1]
        assert person["num_keypoints"] == 15
        # From the neck (8, 26) to the top of the head (9, 28), the whole of it.
        assert person["head_size"] == pytest.approx(np.hypot(1, 2))
        assert data.files.image(record.file_name).shape == (40, 60, 3)


def test_mpii_mat(tmp_path):
    def rect(**more: object) -> dict:
        points = structs(
            [
                {"x": 11.0, "y": 21.0, "id": 0.0, "is_visible": "1"},
                {"x": 31.0, "y": 41.0, "id": 9.0, "is_visible": "0"},
            ]
        )
        place = structs([{"x": 101.0, "y": 201.0}])
        rectangle = {"x1": 10.0, "y1": 10.0, "x2": 13.0, "y2": 14.0}
        return rectangle | {"annopoints": structs([{"point": points}]), "scale": 0.5, "objpos": place} | more

    annolist = structs(
        [
            {"image": structs([{"name": "a.jpg"}]), "annorect": structs([rect(), rect(x2=16.0, y2=18.0)])},
            {"image": structs([{"name": "b.jpg"}]), "annorect": np.empty((0, 0))},
            {
                "image": structs([{"name": "d.jpg"}]),
                "annorect": structs([rect(x2=np.empty((0, 0)), objpos=np.empty((0, 0)), scale=np.empty((0, 0)))]),
            },
            {"image": structs([{"name": "c.jpg"}]), "annorect": structs([rect()])},
        ]
    )
    release = structs([{"annolist": annolist, "img_train": np.array([[1, 1, 1, 0]])}])
    scipy_io.savemat(tmp_path / "mpii_human_pose_v1_u12_1.mat", {"RELEASE": release})
    image(tmp_path / "images" / "a.jpg")
    data = open_dataset(tmp_path, "train")
    assert data.skeleton == MPII_16
    record, holes = data.records  # b has nobody, c is of the test set
    assert not {"head_size", "centre_box"} & holes.people[0].keys()
    assert holes.people[0]["num_keypoints"] == 2
    one, two = record.people
    assert joints_of(one)[0].tolist() == [10, 20, 2]
    assert joints_of(one)[9].tolist() == [30, 40, 1]
    assert one["num_keypoints"] == 2
    assert (one["head_size"], two["head_size"]) == (pytest.approx(0.6 * 5), pytest.approx(0.6 * 10))
    assert one["centre_box"] == [100 - 62.5, 200 + 7.5 - 62.5, 125, 125]
    assert data.files.image(record.file_name).shape == (40, 60, 3)
    with pytest.raises(ValueError, match="split train"):
        open_dataset(tmp_path, "val")


def test_mpii_json(tmp_path):
    joints = [[i + 1.0, 2 * i + 1.0] for i in range(16)]
    row = {"image": "a.jpg", "joints": joints, "joints_vis": [0] + [1] * 15, "center": [21.0, 31.0], "scale": 0.1}
    (tmp_path / "annot").mkdir()
    (tmp_path / "annot" / "valid.json").write_text(json.dumps([row, row | {"image": "b.jpg"}]))
    without = open_dataset(tmp_path, "val")
    assert "head_size" not in without.records[0].people[0]
    heads = np.zeros((2, 2, 2))
    heads[:, :, 0], heads[:, :, 1] = [[10, 10], [13, 14]], [[10, 10], [16, 18]]
    scipy_io.savemat(tmp_path / "annot" / "gt_valid.mat", {"headboxes_src": heads})
    data = open_dataset(tmp_path, "val")
    person = data.records[0].people[0]
    assert joints_of(person)[0].tolist() == [0, 0, 0]
    assert joints_of(person)[3].tolist() == [3, 6, 2]
    assert person["centre_box"] == [20 - 12.5, 30 + 1.5 - 12.5, 25, 25]
    assert [p.people[0]["head_size"] for p in data.records] == [pytest.approx(3), pytest.approx(6)]


def test_flic(tmp_path):
    def example(name: str, train: int) -> dict:
        coords = np.full((2, 29), np.nan)
        for k, column in enumerate((0, 1, 2, 3, 4, 5, 6, 9, 12, 13, 16)):
            coords[:, column] = k + 1, 2 * k + 1
        coords[:, 2] = np.nan
        return {"filepath": name, "coords": coords, "istrain": train, "istest": 1 - train}

    scipy_io.savemat(tmp_path / "examples.mat", {"examples": structs([example("x.jpg", 1), example("y.jpg", 0)])})
    image(tmp_path / "images" / "y.jpg")
    data = open_dataset(tmp_path, "test")
    assert data.skeleton == FLIC_11
    (record,) = data.records
    joints = joints_of(record.people[0])
    assert record.file_name == "images/y.jpg"
    # A square of 1.5 times the longer side of joints from (0, 0) to (10, 20), around their middle.
    assert record.people[0]["centre_box"] == pytest.approx([5 - 15, 10 - 15, 30, 30])
    assert joints[2].tolist() == [0, 0, 0]
    assert joints[10].tolist() == [10, 20, 2]
    assert open_dataset(tmp_path, "train").records[0].file_name == "x.jpg"


def test_lsp_and_its_extension(tmp_path):
    rng = np.random.default_rng(0)
    xy = rng.uniform(1, 60, (2000, 14, 2))
    hidden = rng.integers(0, 2, (2000, 14))
    joints = np.concatenate([xy, hidden[..., None]], 2)
    for folder, array in (("lsp", joints.transpose(2, 1, 0)), ("lspet", joints[:30].transpose(1, 2, 0))):
        (tmp_path / folder).mkdir()
        scipy_io.savemat(tmp_path / folder / "joints.mat", {"joints": array})
    for folder, grey in (("images", 50), ("visualized", 200)):  # as the archive has them, both under one name
        image(tmp_path / "lsp" / folder / "im1001.jpg", grey)
    train, test = (open_dataset(tmp_path / "lsp", split) for split in ("train", "test"))
    assert test.files.image(test.records[0].file_name)[0, 0, 0] == pytest.approx(50, abs=2)
    assert (len(train), len(test)) == (1000, 1000)
    assert train.skeleton == LSP_14
    assert test.records[0].file_name == "images/im1001.jpg"
    first = joints_of(test.records[0].people[0])
    assert np.allclose(first[:, :2], xy[1000] - 1)
    assert first[:, 2].tolist() == np.where(hidden[1000], 1, 2).tolist()
    extended = open_dataset(tmp_path / "lspet", "train")
    assert (len(extended), extended.records[4].file_name) == (30, "im00005.jpg")
    person = extended.records[4].people[0]
    assert person["num_keypoints"] == hidden[4].sum()  # there 1 says that the joint is labelled
    with pytest.raises(ValueError, match="split train"):
        open_dataset(tmp_path / "lspet", "test")


def test_what_is_missing_or_broken_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"(?s)lip_<split>_set\.csv.*human-pose"):
        open_dataset(tmp_path, "val")
    (tmp_path / "lip_val_set.csv").write_text("a.jpg,1,2\n")
    with pytest.raises(ValueError, match=r"lip_val_set\.csv"):
        open_dataset(tmp_path, "val")
    (tmp_path / "lip_val_set.csv").write_text("")
    with pytest.raises(ValueError, match="no annotated image"):
        open_dataset(tmp_path, "val")
