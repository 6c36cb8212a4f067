"""What is drawn of people."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from lithepose.drawing import Drawer, DrawStyle, draw, hide_face
from lithepose.errors import ConfigError
from lithepose.media.image import encode_image
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17

GREY = np.full((240, 320, 3), 127, np.uint8)


def people(score: float = 0.9, ids: list[int] | None = None, shift: float = 0.0) -> Poses:
    """Two people side by side."""
    body = [(50, 30), (54, 26), (46, 26), (60, 28), (40, 28), (70, 70), (30, 70), (80, 110), (20, 110), (84, 150)]
    body += [(16, 150), (62, 140), (38, 140), (64, 180), (36, 180), (66, 220), (34, 220)]
    one = np.array(body, np.float32)
    xy = np.stack([one, one + np.float32([150, 0])]) + np.float32(shift)
    number = None if ids is None else np.array(ids)
    return Poses(xy, np.full((2, 17), score, "f4"), np.float32([0.9, 0.6]), COCO_17, (320, 240), number)


def colours(image: np.ndarray) -> set[tuple[int, ...]]:
    return set(map(tuple, image.reshape(-1, image.shape[2]).tolist()))


def limb(image: np.ndarray, person: int = 0) -> tuple[int, ...]:
    """Colour in the middle of the left forearm."""
    return tuple(image[130, 82 + 150 * person].tolist())


def test_by_default_sides_have_colours_and_the_image_is_kept():
    drawn = draw(GREY, people())
    assert limb(drawn) == limb(drawn, 1)
    assert limb(drawn)[0] > limb(drawn)[2]  # the left is warm
    assert (GREY == 127).all()
    own = GREY.copy()
    assert draw(own, people(), copy=False) is own


def test_colours_of_people_and_ids():
    by_person = draw(GREY, people(), style=DrawStyle(colour="person"))
    assert limb(by_person) != limb(by_person, 1)
    first = draw(GREY, people(ids=[4, 9]), style=DrawStyle(colour="id"))
    swapped = draw(GREY, people(ids=[9, 4]), style=DrawStyle(colour="id"))
    assert limb(first) == limb(swapped, 1) != limb(first, 1)
    assert limb(draw(GREY, people(), style=DrawStyle(colour="#102030"))) == (0x10, 0x20, 0x30)


def test_boxes_scores_and_ids():
    plain = draw(GREY, people(ids=[4, 9]))
    assert (draw(GREY, people()) != plain).any()
    assert (draw(GREY, people(ids=[4, 9]), style=DrawStyle(ids=False)) == draw(GREY, people())).all()
    assert (draw(GREY, people(ids=[4, 9]), style=DrawStyle(scores=True)) != plain).any()
    boxed = draw(GREY, people(), style=DrawStyle(boxes=True))
    x, y, width, _ = people().boxes[0].astype(int)
    edges = boxed[y + 10, [x, x + width]].astype(int)
    assert np.abs(edges - (255, 210, 0)).max() < 60


def test_guesses_are_hollow_and_low_scores_faint():
    assert tuple(draw(GREY, people(0.1))[220, 66]) == (255, 255, 255)
    assert tuple(draw(GREY, people(0.1), style=DrawStyle(guessed=0.2))[220, 66]) != (255, 255, 255)
    bright, faint = (np.array(limb(draw(GREY, people(s), style=DrawStyle(fade=True))), int) for s in (1.0, 0.1))
    assert np.abs(faint - 127).sum() < np.abs(bright - 127).sum() / 2
    assert tuple(bright) == limb(draw(GREY, people()))


def test_wider_lines():
    changed = [(draw(GREY, people(), style=DrawStyle(width=w)) != 127).any(2).sum() for w in (1, 4)]
    assert changed[1] > 1.5 * changed[0]


def test_backgrounds():
    black = draw(GREY, people(), style=DrawStyle(background="black"))
    assert (black[0, 0] == 0).all()
    clear = draw(GREY, people(), style=DrawStyle(background="transparent"))
    assert clear.shape == (240, 320, 4)
    assert clear[0, 0, 3] == 0
    assert limb(clear)[3] == 255
    assert limb(clear)[:3] == limb(draw(GREY, people()))
    back = cv2.imdecode(np.frombuffer(encode_image(".png", clear), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(cv2.cvtColor(back, cv2.COLOR_BGRA2RGBA), clear)


def test_faces_are_hidden_and_the_rest_is_not():
    noise = np.random.default_rng(0).integers(0, 255, GREY.shape, np.uint8)
    image = noise.copy()
    hide_face(image, COCO_17, people().xy[0], people().score[0])
    assert (image[26, 48:52] != noise[26, 48:52]).any()
    assert len(colours(image[22:32, 44:56])) < 30
    assert (image[60:] == noise[60:]).all()
    assert (image[:, 120:] == noise[:, 120:]).all()
    score = np.zeros(17, np.float32)
    hide_face(image := noise.copy(), COCO_17, people().xy[0], score)
    assert (image == noise).all()
    hide_face(image, COCO_17, people(shift=-300).xy[0], people().score[0])  # beyond the edge


def test_trails_follow_people_and_end():
    drawer = Drawer(DrawStyle(trail=1.0))
    first = drawer(GREY, people(ids=[1, 2]), 0.0)
    moved = drawer(GREY, people(ids=[1, 2], shift=8.0), 0.5)
    assert (moved != draw(GREY, people(ids=[1, 2], shift=8.0))).any()
    assert (first == draw(GREY, people(ids=[1, 2]))).all()
    assert (drawer(GREY, people(ids=[1, 2]), 9.0) == draw(GREY, people(ids=[1, 2]))).all()
    assert (drawer(GREY, people(), 9.3) == draw(GREY, people())).all()


@pytest.mark.parametrize("size", [(320, 240), (4000, 3000)])
def test_lines_fit_the_size_of_the_image(size):
    scale = size[0] / 320
    poses = people()
    large = Poses(poses.xy * scale, poses.score, poses.person_score, COCO_17, size)
    share = (draw(np.zeros((size[1], size[0], 3), np.uint8), large) > 0).any(2).mean()
    assert 0.01 < share < 0.15


@pytest.mark.parametrize("wrong", [{"colour": "red"}, {"colour": "#12"}, {"background": "blue"}, {"width": 0}])
def test_styles_that_there_are_not(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DrawStyle(**wrong)
