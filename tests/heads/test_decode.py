from __future__ import annotations

from dataclasses import replace

import numpy as np
import parsing
import pytest
from conftest import figure
from crowds import CELLS, decode, encoded, maps_of, people_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lithepose.geometry import from_cells
from lithepose.heads.base import DecodeConfig
from lithepose.heads.grouping import group, score_limbs, short_limbs
from lithepose.heads.heatmaps import FLIC_HEAD, peaks
from lithepose.heads.heatmaps import heatmaps as gaussians
from lithepose.heads.labels import reorder_joints
from lithepose.heads.outputs import Found, Maps
from lithepose.heads.pafs import COCO_HEAD, PafHead
from lithepose.heads.people import COCO_INSTANCES
from lithepose.skeleton import COCO_17

EXTREMES = [COCO_17.joints.index(n) for n in ("left_ear", "left_wrist", "right_wrist", "left_ankle", "right_ankle")]


@st.composite
def crowds(draw) -> np.ndarray:
    """One to four people in quarters of the image, with joints anywhere in their quarter, some ends unseen."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    limbs = np.array([limb for limb in COCO_HEAD.limbs if max(limb) < 17])
    people = []
    for quarter in draw(st.sets(st.integers(0, 3), min_size=1)):
        # Where two joints of one kind stand nearer than three cells their Gaussians are one: keep a gap between people.
        corner = np.array([quarter % 2, quarter // 2]) * 128.0
        while True:
            xy = rng.uniform(0, 100, (17, 2)) + corner
            neck = xy[5:7].mean(0)
            ends = np.concatenate([xy[limbs[:, 0]] - xy[limbs[:, 1]], xy[[0, 5, 11, 12]] - neck])
            if np.hypot(*ends.T).min() > 4:  # a limb of no length has no direction
                break
        seen = np.full(17, 2.0)
        seen[draw(st.lists(st.sampled_from(EXTREMES), unique=True))] = 0
        people.append(np.concatenate([xy, seen[:, None]], 1))
    return np.array(people)


@settings(max_examples=150)
@given(joints=crowds())
def test_targets_then_decode_returns_the_same_people(joints):
    xy, score, _ = decode(maps_of(joints), COCO_HEAD)
    assert len(xy) == len(joints)
    for person in joints:
        seen = person[:, 2] > 0
        distance = np.abs(xy[:, seen] - person[seen, :2]).max((1, 2))
        match = int(np.nanargmin(distance))
        assert distance[match] < 1, "a joint came back more than a pixel off"
        assert ((score[match] > 0) == seen).all()


@settings(max_examples=50)
@given(x=st.floats(-0.5, CELLS - 0.5), y=st.floats(-0.5, CELLS - 0.5))
def test_a_peak_is_found_below_a_cell_up_to_the_edge(x, y):
    joints = np.zeros((1, 17, 3))
    joints[0, 0] = (x * 8 + 3.5, y * 8 + 3.5, 2)
    _, cells, _ = peaks(maps_of(joints), COCO_HEAD, 0.1)
    assert len(cells) == 1
    assert np.abs(cells[0] - (x, y)).max() < 0.02


def test_a_joint_between_cells_is_one_peak():
    joints = np.zeros((1, 17, 3))
    joints[0, 0] = (8 * 4 - 0.5, 8 * 6 - 0.5, 2)  # the corner of four cells
    assert len(peaks(maps_of(joints), COCO_HEAD, 0.1)[1]) == 1


def test_mirrored_maps_decode_to_mirrored_people():
    rng = np.random.default_rng(3)
    xy = rng.uniform(8, 100, (2, 17, 2)) + np.array([[[0, 0]], [[128, 100]]])
    joints = np.concatenate([xy, np.full((2, 17, 1), 2.0)], 2)
    plain = maps_of(joints)
    heatmaps = plain.heatmaps[list(COCO_HEAD.skeleton.flip_order), :, ::-1]
    pafs = plain.pafs.reshape(-1, 2, CELLS, CELLS)[list(COCO_HEAD.limb_flip_order), :, :, ::-1] * [[[[-1]], [[1]]]]
    mirrored = Maps.from_arrays(np.ascontiguousarray(heatmaps), pafs.reshape(-1, CELLS, CELLS).astype(np.float32))
    xy, _, score = decode(plain, COCO_HEAD)
    flipped, _, flipped_score = decode(mirrored, COCO_HEAD)
    assert np.allclose(np.sort(score), np.sort(flipped_score), atol=1e-5)
    back = flipped[:, list(COCO_17.flip_order)] * (-1, 1) + (CELLS * 8 - 1, 0)
    for person in xy:
        assert np.abs(back - person).max((1, 2)).min() < 1e-2


def test_nobody():
    xy, score, person = decode(maps_of(np.zeros((0, 17, 3))), COCO_HEAD)
    assert (xy.shape, score.shape, person.shape) == ((0, 17, 2), (0, 17), (0,))


def test_grouping_prefers_sure_limbs_and_never_doubles_a_joint():
    joint = np.array([0, 0, 1, 1, 2])
    limb, score = np.array([0, 0, 0, 1, 1]), np.array([0.5, 0.9, 0.4, 0.8, 0.7])
    people = group(joint, limb, np.array([0, 1, 0, 2, 3]), np.array([2, 2, 3, 4, 4]), score, COCO_HEAD)
    assert {frozenset(p) for p in people} == {frozenset({1, 2, 4}), frozenset({0, 3})}


@pytest.mark.parametrize("by_limb", [False, True])
@pytest.mark.parametrize("n", [1, 2, 5, 10, 20])
def test_people_are_those_of_the_papers_text(n, by_limb):
    """On clean maps and on ones with noise, where much is doubtful; joint by joint."""
    for seed, noise in ((0, 0.0), (1, 0.0), (2, 0.05), (3, 0.05)):
        rng = np.random.default_rng(seed)
        clean = maps_of(people_of(n, seed), (46, 54))
        maps = Maps.from_arrays(
            (clean.heatmaps + rng.normal(0, noise, clean.heatmaps.shape)).astype(np.float32),
            (clean.pafs + rng.normal(0, 4 * noise, clean.pafs.shape)).astype(np.float32),
        )
        config = DecodeConfig(by_limb=by_limb)
        people = [person for person in parsing.parse(maps, COCO_HEAD, config) if len(person.keys() - {17}) >= 4]
        expected = np.full((len(people), 18, 2), np.nan)
        for row, person in zip(expected, people, strict=True):
            for joint, (_, x, y, _) in person.items():
                row[joint] = from_cells(np.array([x, y]), COCO_HEAD.stride)
        xy, _, _ = decode(maps, COCO_HEAD, config)
        assert len(xy) == len(people)
        assert n == len(people) or noise
        for person in expected[:, :17]:
            off = np.where(np.isnan(xy) & np.isnan(person), 0, xy - person)  # NaN where only one has the joint
            assert (np.abs(off).max((1, 2)) < 1e-2).sum() == 1


@pytest.mark.parametrize("inwards", [False, True])
def test_by_limb_serves_any_skeleton(inwards):
    """Also where limbs point to the trunk, or go round in circles, as COCO's edges do."""
    edges = tuple(edge[::-1] if inwards else edge for edge in COCO_17.edges)
    head = PafHead(COCO_17, COCO_17, limbs=edges)
    joints = people_of(2, 0)
    maps = encoded(joints, head, (46, 54))
    _, score, _ = decode(maps, head, DecodeConfig(by_limb=True))
    assert (score > 0).sum(1).tolist() == [17, 17]


def test_openpose_parts_a_person_without_a_neck():
    joints = people_of(1, 0)
    maps = maps_of(joints, (46, 54))
    heatmaps = maps.heatmaps.copy()
    heatmaps[17] = 0  # of the neck; shoulders, hips and head hang on it
    maps = Maps.from_arrays(heatmaps, maps.pafs)
    config = DecodeConfig(joints=2)
    best_first, by_limb = (decode(maps, COCO_HEAD, replace(config, by_limb=b))[1] for b in (False, True))
    assert sorted((best_first > 0).sum(1)) == [3, 3, 11]  # legs apart; arms hold on to the head by the ears
    assert sorted((by_limb > 0).sum(1)) == [3, 3, 3, 3, 5]


def test_thresholds_drop_the_weak():
    joints = np.concatenate([np.random.default_rng(0).uniform(10, 240, (1, 17, 2)), np.full((1, 17, 1), 2.0)], 2)
    maps = maps_of(joints)
    faint = Maps.from_arrays(maps.heatmaps * 0.2, maps.pafs)
    assert len(decode(faint, COCO_HEAD)[0]) == 1
    assert len(decode(faint, COCO_HEAD, DecodeConfig(peak=0.3))[0]) == 0
    assert len(decode(Maps.from_arrays(maps.heatmaps, maps.pafs * 0.01), COCO_HEAD)[0]) == 0


def test_peaks_inside_the_graph_are_those_found_here(model, astronaut):
    pixels, _ = model.letterbox(astronaut)
    inside = model.runtime(pixels[None])[0]
    here = Maps.from_arrays(inside.heatmaps, inside.pafs)
    assert np.array_equal(here.peak_score, inside.peak_score)
    real = here.peak_score > 0
    assert np.array_equal(here.peak_cell[real], inside.peak_cell[real])


@settings(max_examples=60)
@given(seed=st.integers(0, 1 << 32), unseen=st.sets(st.integers(0, 10), max_size=5))
def test_one_person_of_a_head_without_limbs_comes_back(seed, unseen):
    cells = 56
    joints = np.random.default_rng(seed).uniform(0, 4 * cells - 1, (1, 11, 3)).astype(np.float32)
    joints[0, :, 2] = 2
    joints[0, list(unseen), 2] = 0
    heatmaps = gaussians(joints, FLIC_HEAD, cells, cells)
    # A second, fainter person behind: the higher peak counts.
    other = gaussians(np.roll(joints, 1, 1) * (1, 1, 0) + (0, 0, 2), FLIC_HEAD, cells, cells)
    maps = Maps.from_arrays(np.maximum(heatmaps, 0.05 * other), np.empty((0, cells, cells), np.float32))
    xy, score, _ = decode(maps, FLIC_HEAD)
    seen = joints[0, :, 2] > 0
    assert len(xy) == 1
    assert ((score[0] > 0) == seen).all()
    assert np.abs(xy[0, seen] - joints[0, seen, :2]).max() < 1
    empty = Maps.from_arrays(np.zeros_like(heatmaps), maps.pafs)
    assert len(decode(empty, FLIC_HEAD)[0]) == 0


def test_people_that_a_network_names_itself_are_sorted_and_sifted():
    xy = np.arange(3 * 17 * 2, dtype=np.float32).reshape(3, 17, 2)
    score = np.full((3, 17), 0.9, np.float32)
    score[0, 5:] = 0.01
    score[2, 2:] = 0.01
    found = Found(xy, score, np.array([0.3, 0.8, 0.9], np.float32))
    places, scores, people = decode(found, COCO_INSTANCES)
    assert people.tolist() == [np.float32(0.8), np.float32(0.3)]
    assert np.array_equal(places[0], xy[1])
    assert np.isnan(places[1, 5:]).all()
    assert (scores[1, 5:] == 0).all()
    assert len(decode(found, COCO_INSTANCES, DecodeConfig(person=0.5))[0]) == 1


def test_a_limb_across_the_image_is_rejected(monkeypatch):
    """Two people whose wrist and elbow a field joins wrongly: the long forearm goes, both bodies stay."""
    near, far = figure(40, 40, 200), figure(420, 40, 200)
    joints = reorder_joints(np.stack([near, far]), COCO_17.joints, COCO_HEAD.skeleton)
    maps = encoded(joints, COCO_HEAD, (64, 96))
    elbow, wrist = (COCO_HEAD.skeleton.joints.index(f"left_{part}") for part in ("elbow", "wrist"))
    joint, cells, _ = peaks(maps, COCO_HEAD, 0.2)
    limbs = score_limbs(maps, COCO_HEAD, joint, cells, DecodeConfig())
    people = group(joint, *limbs, COCO_HEAD)
    assert len(people) == 2
    assert short_limbs(cells, *limbs[:3], people, COCO_HEAD).all()
    # The forearm of the one now ends at the wrist of the other, and scores best of all.
    forearm = COCO_HEAD.limbs.index((elbow, wrist))
    one, two = sorted(people, key=lambda members: cells[members, 0].mean())
    start = next(c for c in one if joint[c] == elbow)
    end = next(c for c in two if joint[c] == wrist)
    kept = ~((limbs[0] == forearm) & ((limbs[1] == start) | (limbs[2] == end)))
    wrong = [np.append(values[kept], value) for values, value in zip(limbs, (forearm, start, end, 2.0), strict=True)]
    wrong = [values.astype(int) for values in wrong[:3]] + [wrong[3]]
    monkeypatch.setattr("lithepose.heads.pafs.score_limbs", lambda *_: tuple(wrong))
    xy, score, _ = decode(maps, COCO_HEAD)
    assert len(xy) == 2
    width = np.nanmax(xy[..., 0], 1) - np.nanmin(xy[..., 0], 1)
    assert (width < 200).all()
    assert (score > 0).sum() >= 2 * 17 - 2
