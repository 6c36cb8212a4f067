from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithepose.decode import DecodeConfig, Found, decode
from lithepose.evaluate import evaluate
from lithepose.predict import Predictor
from lithepose.prior import EVIDENCE, GUESS, PosePrior, complete
from lithepose.skeleton import COCO_17, COCO_BOXES_HEAD, COCO_HEAD, LSP_14

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


def test_a_heatmap_moves_a_guess_that_lies_near_it():
    pose = PRIOR.mean * 60 + 128
    wrist = JOINTS["left_wrist"]
    pose[wrist] = np.nan
    expected, spread = PRIOR.expect(pose)
    heatmaps = np.zeros((18, 32, 32), np.float32)
    score = np.where(np.isnan(pose[:, 0]), 0, 0.9).astype(np.float32)

    def filled() -> tuple[np.ndarray, float]:
        xy, scores = complete(pose[None], score[None], heatmaps, COCO_HEAD)
        assert not np.isnan(xy).any()
        others = np.arange(17) != wrist
        assert np.array_equal(xy[0, others], pose[others].astype(np.float32))
        assert np.array_equal(scores[0, others], score[others])
        return xy[0, wrist], float(scores[0, wrist])

    place, value = filled()
    assert place == pytest.approx(expected[wrist], abs=1e-3)
    assert value == pytest.approx(GUESS)
    x, y = 18, 21
    cell = np.array([x, y]) * 8 + 3.5
    assert 0 < np.hypot(*(cell - expected[wrist])) < 2 * spread[wrist], "the test asks for a cell near the guess"
    heatmaps[wrist, y, x] = EVIDENCE / 2
    assert filled()[1] == pytest.approx(GUESS)
    heatmaps[wrist, y, x] = 0.1
    place, value = filled()
    assert place.tolist() == cell.tolist()
    assert value == pytest.approx(0.1)
    heatmaps[wrist] = 0
    heatmaps[wrist, 1, 1] = 0.9  # another person's, far away
    assert filled()[1] == pytest.approx(GUESS)


def test_found_people_keep_what_their_network_said_of_doubtful_joints():
    xy = np.random.default_rng(0).uniform(0, 200, (2, 17, 2)).astype(np.float32)
    score = np.full((2, 17), 0.9, np.float32)
    score[0, :5] = 0.05, 0.04, 0, 0.001, 0.02
    score[1, 3:] = 0.05  # too few sure joints for a person
    found = Found(xy, score, np.array([0.8, 0.7], np.float32))
    places, scores, people = decode(found, COCO_BOXES_HEAD, DecodeConfig(complete=True))
    assert people.tolist() == [np.float32(0.8)]
    assert np.array_equal(places[0], xy[0])
    assert scores[0, :5] == pytest.approx([0.05, 0.04, GUESS, GUESS, 0.02])


def test_joints_without_a_prior_are_told():
    with pytest.raises(ValueError, match="lsp14"):
        PosePrior.of(LSP_14)


def test_completed_people_are_the_same_people(model, astronaut):
    guessing = Predictor(model.runtime, config=DecodeConfig(complete=True))
    found, guessed = model(astronaut), guessing(astronaut)
    assert len(found) == len(guessed)
    assert np.array_equal(found.person_score, guessed.person_score)
    assert not found.found.all()
    assert guessed.found.all()
    assert np.array_equal(guessed.xy[found.found], found.xy[found.found])
    assert guessed.score[~found.found].min() == pytest.approx(GUESS)


def test_guesses_count_in_evaluation_unless_told_otherwise(stick_photos):
    model = Predictor(threads=1, config=DecodeConfig(peak=0.02, joints=2))

    def joints(complete: bool) -> np.ndarray:
        done = evaluate(model, stick_photos, complete=complete)
        return np.array([result["keypoints"] for result in done.results]).reshape(-1, 17, 3)

    plain, full = joints(False), joints(True)
    assert len(plain) == len(full) > 0
    assert (plain[..., 2] == 0).any()
    assert (full[..., 2] > 0).all()
    assert not model.config.complete, "the caller's predictor was changed"
    seen = plain[..., 2] > 0
    assert np.array_equal(plain[seen], full[seen])
