from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crowds import decode
from hypothesis import given
from hypothesis import strategies as st

from lithepose.evaluation.evaluate import evaluate
from lithepose.heads.base import DecodeConfig
from lithepose.heads.outputs import Found
from lithepose.heads.people import COCO_INSTANCES
from lithepose.heads.pose_prior import EVIDENCE, PosePrior, complete
from lithepose.inference.predictor import Predictor
from lithepose.skeleton import COCO_17, LSP_14

PRIOR = PosePrior.of(COCO_17)
JOINTS = {name: i for i, name in enumerate(COCO_17.joints)}
some_joints = st.sets(st.integers(0, 16), min_size=3, max_size=16)


def with_only(known: set[int], xy: np.ndarray) -> np.ndarray:
    seen = np.isin(np.arange(17), list(known))
    return np.where(seen[:, None], xy, np.nan)


@given(known=some_joints, size=st.floats(5, 500), x=st.floats(-100, 900), y=st.floats(-100, 900))
def test_a_mean_pose_of_any_size_and_place_is_expected_from_some_of_its_joints(known, size, x, y):
    pose = PRIOR.mean * size + (x, y)
    expected, spread = PRIOR.expect(with_only(known, pose))
    assert np.abs(expected - pose).max() < 1e-6 * size
    found = np.isin(np.arange(17), list(known))
    assert (spread[found] == 0).all()
    assert (spread[~found] > 0).all()


@given(known=some_joints, seed=st.integers(0, 1 << 32))
def test_guesses_move_and_mirror_with_the_person_and_leave_found_joints_alone(known, seed):
    pose = with_only(known, np.random.default_rng(seed).normal(0, 80, (17, 2)))
    expected, spread = PRIOR.expect(pose)
    found = ~np.isnan(pose[:, 0])
    assert np.array_equal(expected[found], pose[found])
    moved, wider = PRIOR.expect(pose * 3 + (40, -7))
    assert moved == pytest.approx(expected * 3 + (40, -7), abs=1e-6)
    assert wider == pytest.approx(spread * 3)
    other = list(COCO_17.flip_order)
    mirrored, _ = PRIOR.expect(pose[other] * (-1, 1))
    # Fitted to people and their mirror images; filled in one after the other, they differ by rounding.
    assert np.abs(mirrored[other] * (-1, 1) - expected).max() < 1e-2 * np.nanstd(pose)


LEAST = 0.2
WRIST = JOINTS["left_wrist"]


def test_a_heatmap_moves_a_guess_that_lies_near_it():
    pose = PRIOR.mean * 60 + 128
    pose[WRIST] = np.nan
    expected, spread = PRIOR.expect(pose)
    heatmaps = np.zeros((18, 32, 32), np.float32)
    score = np.where(np.isnan(pose[:, 0]), 0, 0.9).astype(np.float32)

    def filled() -> tuple[np.ndarray, float]:
        xy, scores = complete(pose[None], score[None], heatmaps[:17], COCO_17, 8, LEAST)
        assert not np.isnan(xy).any()
        others = np.arange(17) != WRIST
        assert np.array_equal(xy[0, others], pose[others].astype(np.float32))
        assert np.array_equal(scores[0, others], score[others])
        return xy[0, WRIST], float(scores[0, WRIST])

    place, value = filled()
    assert place == pytest.approx(expected[WRIST], abs=1e-3)
    assert value == pytest.approx(LEAST / 20)
    x, y = 18, 21
    cell = np.array([x, y]) * 8 + 3.5
    assert 0 < np.hypot(*(cell - expected[WRIST])) < 2 * spread[WRIST], "the test asks for a cell near the guess"
    heatmaps[WRIST, y, x] = EVIDENCE / 2
    assert filled()[0] == pytest.approx(expected[WRIST], abs=1e-3)
    for evidence, said in ((0.1, 0.05), (0.9, LEAST / 2)):  # a sure peak may be somebody else's
        heatmaps[WRIST, y, x] = evidence
        place, value = filled()
        assert place.tolist() == cell.tolist()
        assert value == pytest.approx(said)
    heatmaps[WRIST] = 0
    heatmaps[WRIST, 1, 1] = 0.9  # far away
    assert filled()[0] == pytest.approx(expected[WRIST], abs=1e-3)


def test_nobody_and_people_of_one_place_stay_as_they_are():
    heatmaps = np.zeros((18, 8, 8), np.float32)
    xy, score = complete(np.zeros((0, 17, 2)), np.zeros((0, 17)), heatmaps[:17], COCO_17, 8, LEAST)
    assert xy.shape == (0, 17, 2)
    assert score.shape == (0, 17)
    point = np.full((1, 17, 2), np.nan)
    point[0, :2] = 20
    xy, score = complete(point, np.where(np.isnan(point[..., 0]), 0, 0.9), heatmaps[:17], COCO_17, 8, LEAST)
    assert np.array_equal(xy, point.astype(np.float32), equal_nan=True)
    assert (score[0, 2:] == 0).all()


def test_found_people_keep_what_their_network_said_of_doubtful_joints():
    xy = np.random.default_rng(0).uniform(0, 200, (2, 17, 2)).astype(np.float32)
    score = np.full((2, 17), 0.9, np.float32)
    score[0, :5] = 0.05, 0.04, 0, 0.001, 0.02
    score[1, 3:] = 0.05  # too few sure joints for a person
    found = Found(xy, score, np.array([0.8, 0.7], np.float32))
    places, scores, people = decode(found, COCO_INSTANCES, DecodeConfig(peak=0.2, complete=True))
    assert people.tolist() == [np.float32(0.8)]
    assert np.array_equal(places[0], xy[0])
    assert scores[0, :5] == pytest.approx([0.05, 0.04, 0.01, 0.01, 0.02])


def test_the_joints_decide_whether_there_is_a_prior_not_their_name():
    with pytest.raises(ValueError, match="lsp14"):
        PosePrior.of(LSP_14)
    with pytest.raises(ValueError, match="coco17"):
        PosePrior.of(replace(LSP_14, name="coco17"))
    assert PosePrior.of(replace(COCO_17, name="person")) is PRIOR


def test_completed_people_are_the_same_people(model, astronaut):
    guessing = model.with_config(complete=True)
    found, guessed = model(astronaut), guessing(astronaut)
    assert len(found) == len(guessed)
    assert np.array_equal(found.person_score, guessed.person_score)
    assert np.array_equal(guessed.xy[found.found], found.xy[found.found])
    more = guessed.found & ~found.found
    assert more.any()
    assert guessed.score[more].max() < DecodeConfig().peak / 2 + 1e-6
    # She is seen to the waist: her feet would be below the image, and are not drawn on its edge.
    assert (guessed.xy[more][:, 1] < astronaut.shape[0] - 1).any()
    feet = guessed.found[0, [JOINTS["left_ankle"], JOINTS["right_ankle"]]]
    assert not feet.any()
    assert not model.config.complete, "the first predictor was changed"


def test_guesses_count_in_evaluation_unless_told_otherwise(stick_images):
    model = Predictor("lithe_paf", threads=1, config=DecodeConfig(peak=0.02, joints=2, complete=True))

    def joints(complete: bool) -> np.ndarray:
        done = evaluate(model, stick_images, complete=complete)
        return np.array([result["keypoints"] for result in done.results]).reshape(-1, 17, 3)

    plain, full = joints(False), joints(True)
    assert len(plain) == len(full) > 0
    seen = plain[..., 2] > 0
    assert (full[..., 2] > 0).sum() > seen.sum()
    assert np.array_equal(plain[seen], full[seen])
