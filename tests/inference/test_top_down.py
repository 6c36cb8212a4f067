from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from lithepose.cli import main
from lithepose.geometry import MARGIN, square
from lithepose.heads.base import DecodeConfig
from lithepose.heads.outputs import Found
from lithepose.heads.people import COCO_INSTANCES, FLIC_COORDINATES, CoordinateHead
from lithepose.inference.predictor import Predictor
from lithepose.inference.top_down import FAR, TopDown
from lithepose.runtime.base import ModelInfo
from lithepose.skeleton import FLIC_11, LSP_14, Skeleton

PEOPLE = [(40, 30, 60, 100), (150, 60, 40, 40), (-20, 200, 50, 60)]  # the last reaches beyond the image


class Spot:
    """A network of one person whose joints all are at the red spot; nobody where there is none."""

    info = ModelInfo("spot", FLIC_COORDINATES, 16, 512)

    def __call__(self, images: np.ndarray) -> list[Found]:
        results = []
        for image in images:
            red = image[..., 0].astype(int) - image[..., 1]
            y, x = np.argwhere(red == red.max()).mean(0)
            score = np.full((1, len(FLIC_11)), 0.9 if red.max() > 100 else 0.0, "f4")
            results.append(Found(np.full((1, len(FLIC_11), 2), (x, y), "f4"), score, score[:, 0]))
        return results


class Finder:
    """A network of many people that sees those of ``PEOPLE``."""

    info = ModelInfo("finder", COCO_INSTANCES, 16, 320)

    def __call__(self, images: np.ndarray) -> list[Found]:
        rng = np.random.default_rng(0)
        xy = [
            np.concatenate([[(x, y), (x + w, y + h)], rng.uniform((x, y), (x + w, y + h), (15, 2))])
            for x, y, w, h in PEOPLE
        ]
        score = np.full((len(PEOPLE), 17), 0.9, "f4")
        return [Found(np.array(xy, np.float32), score, score[:, 0])] * len(images)


def scene(spots: list[tuple[int, int]]) -> np.ndarray:
    image = np.full((260, 320, 3), 114, np.uint8)
    for x, y in spots:
        image[y - 1 : y + 2, x - 1 : x + 2] = 255, 0, 0
    return image


def test_joints_come_back_where_they_are_in_the_image():
    spots = [(70, 90), (170, 75), (10, 230)]
    one = TopDown(Predictor(Spot()))
    poses = one(scene(spots), PEOPLE)
    assert len(poses) == 3
    assert poses.size == (320, 260)
    # Cuts are enlarged to 512: a spot of three pixels has its middle to a fraction of one.
    assert np.abs(poses.xy - np.array(spots)[:, None]).max() < 0.5
    by_finder = TopDown(Predictor(Spot()), Predictor(Finder()))(scene(spots))
    assert np.abs(by_finder.xy - np.array(spots)[:, None]).max() < 0.5


def test_who_is_not_in_the_box_is_not_found():
    one = TopDown(Predictor(Spot()))
    assert len(one(scene([(70, 90)]), PEOPLE)) == 1
    assert len(one(scene([]), PEOPLE)) == 0
    assert len(one(scene([(70, 90)]), [])) == 0


def test_the_square_has_the_centre_of_the_box():
    x, y, w, h = square((10, 20, 30, 40))
    assert (x + w / 2, y + h / 2) == (25, 40)
    assert w == h == MARGIN * 40


def test_networks_of_the_wrong_kind_and_bad_boxes_are_told():
    spot, finder = Predictor(Spot()), Predictor(Finder())
    with pytest.raises(ValueError, match="lithe_paf finds all people"):
        TopDown("lithe_paf")
    with pytest.raises(ValueError, match="finder finds all people"):
        TopDown(finder)
    with pytest.raises(ValueError, match="spot"):
        TopDown(spot, spot)
    with pytest.raises(ValueError, match="one image at a time"):
        TopDown(spot)([scene([])], [])
    with pytest.raises(ValueError, match="detect_every=0"):
        TopDown(spot, detect_every=0)
    size = 320 * FAR
    for box in ((1, 2, 0, 4), (1, 2, 3), (1, 2, float("nan"), 4), "1234", 7, (400, 1, 9, 9), (0, 0, size, size)):
        with pytest.raises(ValueError, match=r"box .*(1|7|400|nan|960)"):
            TopDown(spot)(scene([]), [box])


class Faces(Finder):
    """Is sure of few joints, which do not span the people."""

    def __call__(self, images: np.ndarray) -> list[Found]:
        (found, *_) = super().__call__(images)
        score = np.where(np.isin(np.arange(17), (2, 3, 4)), found.score, 0.01).astype(np.float32)
        return [Found(found.xy, score, score[:, 0])] * len(images)


def test_a_finder_tells_of_whole_people_where_it_sees_faces():
    faces = Predictor(Faces(), config=DecodeConfig(joints=1))
    around = TopDown(Predictor(Spot()), faces).finder
    assert around is not None
    image = scene([])
    whole = Predictor(Finder())(image).boxes
    assert np.abs(around(image).boxes[:2] - whole[:2]).max() < 1e-3  # the third reaches beyond the image
    assert (around(image).boxes[:, 3] > faces(image).boxes[:, 3]).all()


def test_a_network_of_upper_bodies_looks_at_these_alone():
    class Standing(Finder):
        def __call__(self, images: np.ndarray) -> list[Found]:
            y = np.linspace(20, 220, 17)  # the last four joints are knees and ankles
            xy = np.stack([np.full(17, 160.0), y], 1)[None].astype(np.float32)
            return [Found(xy, np.full((1, 17), 0.9, "f4"), np.full(1, 0.9, "f4"))] * len(images)

    seen = []

    class Looking(Spot):
        def __init__(self, head: CoordinateHead) -> None:
            self.info = ModelInfo("looking", head, 16, 512)

        def __call__(self, images: np.ndarray) -> list[Found]:
            joints = len(self.info.joints_head.skeleton)
            return [Found(np.zeros((1, joints, 2), "f4"), np.zeros((1, joints), "f4"), np.zeros(1, "f4"))] * len(images)

    def look(head: CoordinateHead) -> float:
        predictor = Predictor(Looking(head))
        crop = predictor.person_crop
        predictor.person_crop = lambda image, box, small: seen.append(square(box)) or crop(image, box)
        TopDown(predictor, Predictor(Standing()))(scene([]))
        return seen[-1][3]

    # Eyes and nose to hips are 12 of 16 steps; a skeleton with a top of the head takes in ears, eyes and nose.
    assert look(FLIC_COORDINATES) == pytest.approx(MARGIN * 150)
    assert look(CoordinateHead(LSP_14, LSP_14)) == pytest.approx(MARGIN * 200)
    # Joints that tell too little about where somebody is leave the finder's box.
    nose = Skeleton("nose", ("nose", "left_eye", "tail"), ())
    assert look(CoordinateHead(nose, nose)) == pytest.approx(MARGIN * 200)


def test_one_joint_is_enough_where_somebody_is_said_to_be():
    class Nose(Spot):
        def __call__(self, images: np.ndarray) -> list[Found]:
            found = super().__call__(images)
            return [Found(f.xy, f.score * (np.arange(len(FLIC_11)) == 3), f.person_score) for f in found]

    alone = Predictor(Nose())
    assert len(alone(scene([(70, 90)]))) == 0
    poses = TopDown(alone)(scene([(70, 90)]), PEOPLE[:1])
    assert poses.found.sum() == 1


def test_joints_beyond_the_image_come_to_its_edge():
    class Corner(Spot):
        def __call__(self, images: np.ndarray) -> list[Found]:
            found = super().__call__(images)
            return [Found(np.zeros_like(f.xy), np.full_like(f.score, 0.9), np.full(1, 0.9, "f4")) for f in found]

    poses = TopDown(Predictor(Corner()))(scene([]), [(0, 0, 40, 40)])
    assert (poses.xy == 0).all()


def test_boxes_on_the_command_line(tmp_path, monkeypatch, capsys):
    from lithepose.inference import models as load

    real = load.OnnxRuntime
    monkeypatch.setattr(load, "OnnxRuntime", lambda path, *rest: Spot() if path.stem == "spot" else real(path, *rest))
    for name in ("one.png", "two.png", "three.png"):
        cv2.imwrite(str(tmp_path / name), scene([(70, 90)])[..., ::-1])
    boxes = tmp_path / "boxes.json"
    boxes.write_text(json.dumps({"one.png": PEOPLE[:2], str(tmp_path / "two.png"): []}))
    out = tmp_path / "out.jsonl"
    call = ["predict", str(tmp_path / "*.png"), "--model", "spot.onnx", "--json", str(out), "--overwrite"]
    assert main([*call, "--boxes", str(boxes)]) == 1
    said = capsys.readouterr().err
    assert "three.png" in said
    assert "1 failed" in said
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [len(line["people"]) for line in lines] == [1, 0]
    x, y, _ = lines[0]["people"][0]["joints"]["nose"]
    assert abs(x - 70) < 0.5
    assert abs(y - 90) < 0.5
    boxes.write_text(json.dumps({"one.png": PEOPLE[:1], "two.png": [[900, 900, 5, 5]], "three.png": PEOPLE[:1]}))
    assert main([*call, "--boxes", str(boxes)]) == 1
    said = capsys.readouterr().err.replace("\n", "")
    assert "two.png" in said
    assert "900" in said
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [line["source"].rsplit("/", 1)[-1] for line in lines] == ["one.png", "three.png"]
    bad = (
        "[]",
        '{"one.png": 3}',
        '{"one.png": [["x"]]}',
        '{"one.png": [[1, 2, 0, 4]]}',
        '{"one.png": ["1234"]}',
        "no json",
    )
    for text in (*bad, '{"other.png": []}'):
        boxes.write_text(text)
        assert main([*call, "--boxes", str(boxes)]) == 2, text
        assert "boxes.json" in capsys.readouterr().err.replace("\n", "")
    assert main([*call[:2], "--model", "lithe_paf", "--boxes", "lithe_paf"]) == 2
    assert "lithe_paf finds all people" in capsys.readouterr().err.replace("\n", " ")
    assert main([*call, "--complete"]) == 2
    assert "omit complete" in capsys.readouterr().err.replace("\n", " ")
    assert main([*call, "--boxes", str(tmp_path / "none.json")]) == 2
