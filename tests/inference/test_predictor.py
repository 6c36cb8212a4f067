from __future__ import annotations

import numpy as np
import pytest
from conftest import SAMPLES, write_video
from PIL import Image

import lithepose
from lithepose.errors import ImageError
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17

NOSE = COCO_17.joints.index("nose")


def test_the_embedded_model_finds_the_astronaut(model, astronaut):
    poses = model(astronaut)
    assert poses.joints == COCO_17.joints
    assert poses.size == (512, 512)
    # Read off the image by eye.
    for joint, place in {"nose": (226, 122), "left_eye": (247, 102), "right_eye": (204, 102)}.items():
        assert np.hypot(*(poses.xy[0, COCO_17.joints.index(joint)] - place)) < 20, joint


def test_paths_arrays_and_pil_images_agree(model, astronaut):
    path = SAMPLES / "astronaut.jpg"
    expected = model(astronaut)
    for image in (
        path,
        str(path),
        Image.fromarray(astronaut),
        np.dstack([astronaut, np.full((512, 512), 255, "u1")]),
    ):
        assert np.array_equal(model(image).xy, expected.xy, equal_nan=True)


def test_a_batch_is_as_one_by_one(model, astronaut):
    images = [astronaut, astronaut[:, :300], astronaut[::-1].copy()]
    for one, many in zip(map(model, images), model(images), strict=True):
        assert len(one) == len(many)
        assert np.allclose(one.xy, many.xy, atol=0.05, equal_nan=True)
    assert model([]) == []


def test_size_does_not_change_the_answer(model, astronaut):
    """Pixels of the image are meant: an image twice as large has its joints twice as far."""
    large = np.asarray(Image.fromarray(astronaut).resize((1024, 1024), Image.Resampling.BICUBIC))
    small, big = model(astronaut), model(large)
    ratio = (big.xy[0, NOSE] + 0.5) / (small.xy[0, NOSE] + 0.5)
    assert np.allclose(ratio, 2, atol=0.03)


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (900, 1), (7, 5), (64, 64), (333, 500)])
def test_odd_sizes(model, shape):
    assert model(np.full((*shape, 3), 90, np.uint8)).size == shape[::-1]


@pytest.mark.parametrize(("left", "width", "height"), [(100, 331, 287), (140, 200, 512), (0, 512, 301)])
def test_people_at_the_edge_stay_inside(model, astronaut, left, width, height):
    poses = model(astronaut[:height, left : left + width])
    assert poses.found.any()
    assert (poses.xy[poses.found] >= 0).all()
    assert (poses.xy[poses.found] <= np.array([width, height]) - 1).all()


def test_where_the_person_is_does_not_change_the_answer(model, astronaut):
    """Moved by whole strides, so that the maps move by whole cells."""
    moved = np.full((512, 576, 3), 127, np.uint8)
    moved[:, 64:] = astronaut
    wide = np.full((512, 576, 3), 127, np.uint8)
    wide[:, :512] = astronaut
    predictor = lithepose.Predictor("lithe_paf", size=576)
    one, two = predictor(wide).xy[0, NOSE], predictor(moved).xy[0, NOSE]
    assert np.allclose(two - one, (64, 0), atol=4)


def test_a_long_list_is_run_in_parts(model, monkeypatch):
    seen = []
    monkeypatch.setattr(model, "runtime", Spy(model.runtime, seen))
    assert len(model([np.zeros((64, 64, 3), np.uint8)] * 35)) == 35
    assert seen == [16, 16, 3]


class Spy:
    def __init__(self, runtime, seen):
        self.runtime, self.info, self.seen = runtime, runtime.info, seen

    def __call__(self, images):
        self.seen.append(len(images))
        return self.runtime(images)


def test_stream(model, tmp_path):
    write_video(tmp_path / "clip.mp4", 4)
    seen = list(model.stream(tmp_path / "clip.mp4"))
    assert [f.frame.index for f in seen] == [0, 1, 2, 3]
    assert seen[0].image.shape == (48, 64, 3)
    (tmp_path / "bad.jpg").write_bytes(b"x")
    with pytest.raises(ImageError, match=r"bad\.jpg"):
        list(model.stream(tmp_path / "bad.jpg"))


def test_what_is_no_image(model):
    with pytest.raises(ImageError, match="shape"):
        model(np.zeros((3, 3, 7), np.uint8))
    with pytest.raises(ValueError, match="nonsense"):
        lithepose.load("nonsense")


def test_drawing():
    image = np.zeros((100, 100, 3), np.uint8)
    xy = np.full((1, 17, 2), np.nan, np.float32)
    score = np.zeros((1, 17), np.float32)
    for joint, place in (("left_shoulder", (20, 20)), ("left_elbow", (80, 20)), ("left_wrist", (80, 80))):
        xy[0, COCO_17.joints.index(joint)], score[0, COCO_17.joints.index(joint)] = place, 0.5
    poses = Poses(xy, score, np.ones(1, np.float32), COCO_17, (100, 100))
    drawn = lithepose.draw(image, poses)
    assert not image.any(), "the image that was given stays as it was"
    red, _, blue = drawn[20, 50].astype(int)
    assert red > blue + 50, "a left limb is warm"
    assert drawn[50, 80].any()
    assert not drawn[60:, :60].any(), "no limb to a joint that was not found"
    assert not lithepose.draw(image, poses, threshold=0.6).any()
    lithepose.draw(image, poses, copy=False)
    assert image.any()


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="poze"):
        lithepose.poze  # noqa: B018


def test_what_an_interpreter_shows(model):
    assert set(lithepose.__all__) <= set(dir(lithepose))
    assert repr(Poses.empty(COCO_17, (512, 340))) == "<0 people, coco17, 512x340>"
    one = Poses(np.ones((1, 17, 2), "f4"), np.ones((1, 17), "f4"), np.ones(1, "f4"), COCO_17, (4, 5), np.array([7]))
    assert repr(one) == "<1 person, coco17, 4x5, ids 7>"
    assert repr(model) == f"<Predictor of lithe_paf, longer side {model.size}>"


def test_a_call_keeps_its_image_for_drawing(model, astronaut):
    poses = model(astronaut)
    assert np.array_equal(poses.image, astronaut)
    assert (poses.plot() != astronaut).any()
    assert model.joints == poses.joints == model.skeleton.joints


def test_options_of_one_call(model, astronaut):
    plain = model(astronaut)
    assert np.array_equal(model.predict(astronaut[..., ::-1], bgr=True).xy, plain.xy, equal_nan=True)
    assert (model.predict(astronaut, conf=0.9).score > 0).sum() < (plain.score > 0).sum()
    assert model.config.peak < 0.9, "the model was changed"


def test_a_stream_raises_or_skips_what_cannot_be_read(model, tmp_path, astronaut):
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    lithepose.write_image(tmp_path / "good.jpg", astronaut[:64, :64])
    with pytest.raises(lithepose.ImageError, match=r"bad\.jpg"):
        list(model.stream(tmp_path))
    (frame,) = model.stream(tmp_path, on_error="skip")
    assert frame.frame.source.endswith("good.jpg")
    with pytest.raises(ValueError, match="on_error='ignore'"):
        next(model.stream(tmp_path, on_error="ignore"))
