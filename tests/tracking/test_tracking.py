from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from crowds import FIGURE, poses_of, walkers

from lithepose.drawing import draw
from lithepose.heads.base import DecodeConfig
from lithepose.media.sources import Frame
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17
from lithepose.tracking.one_euro import Smoother
from lithepose.tracking.tracker import Following, Tracker

RATE = 30.0


def people(*places: tuple[float, float], score: float = 0.6) -> Poses:
    """Figures of 100x200 pixels whose top left corners are given."""
    xy = np.stack([FIGURE * (100, 200) + place for place in places]) if places else np.zeros((0, 17, 2))
    return poses_of(xy, np.full((len(places), 17), score))


def test_two_who_cross_keep_their_ids():
    tracker, ids = Tracker(), []
    for frame in range(60):
        there, back = (5 * frame, 100), (400 - 7 * frame, 130)
        order = [there, back] if frame % 2 else [back, there]
        ids.append(tracker(people(*order), frame / RATE).id[:: 1 if frame % 2 else -1].tolist())
    assert all(pair == ids[0] for pair in ids)
    assert sorted(ids[0]) == [1, 2]


@pytest.mark.parametrize("hidden", [10, 40])
def test_who_was_hidden_is_found_again(hidden):
    """While the other, who hides her, walks on."""
    tracker = Tracker()
    for frame in range(20):
        ids = tracker(people((3 * frame, 100), (300 - 3 * frame, 100)), frame / RATE).id
    for frame in range(20, 20 + hidden):
        assert tracker(people((3 * frame, 100)), frame / RATE).id.tolist() == [ids[0]]
    frame = 20 + hidden
    assert tracker(people((300 - 3 * frame, 100), (3 * frame, 100)), frame / RATE).id.tolist() == ids[::-1].tolist()


def test_who_is_gone_for_long_is_new():
    tracker = Tracker(window=0.5)
    assert tracker(people((100, 100)), 0.0).id.tolist() == [1]
    assert tracker(people(), 0.4).id.tolist() == []
    assert tracker(people((100, 100)), 0.51).id.tolist() == [2]


def test_the_doubtful_begin_no_id_but_keep_theirs():
    tracker = Tracker()
    assert tracker(people((100, 100), score=0.1), 0.0).id.tolist() == [-1]
    assert tracker(people((100, 100)), 0.1).id.tolist() == [1]
    assert tracker(people((102, 100), score=0.1), 0.2).id.tolist() == [1]
    # The sure one comes first, though the doubtful one is nearer.
    both = people((103, 100), (115, 100))
    unsure = np.array([[0.1], [0.6]], np.float32)
    both = Poses(both.xy, both.score, unsure[:, 0], both.skeleton, both.size)
    assert tracker(both, 0.3).id.tolist() == [-1, 1]


def test_any_likeness_may_be_enough():
    tracker = Tracker(alike=0)
    assert tracker(people((0, 0)), 0.0).id.tolist() == [1]
    assert sorted(tracker(people((100, 0), (500, 200)), 0.1).id.tolist()) == [1, 2]


def test_crowds_keep_their_ids():
    """Of 8,775 people in 20 crowds; the figures are those of benchmarks/tracking.py."""
    switched = total = 0
    for seed in range(20):
        tracker, known = Tracker(), {}
        for time, numbers, poses in walkers(seed):
            for number, id in zip(numbers.tolist(), tracker(poses, time).id.tolist(), strict=True):
                total += 1
                if id > 0:
                    switched += known.get(number, id) != id
                    known[number] = id
    assert total > 8500
    assert switched <= 12


def test_smoothing_halves_jitter_at_rest():
    rng, smoother, raw, smooth = np.random.default_rng(0), Smoother(), [], []
    for frame in range(300):
        poses = people((100, 100))
        poses = replace(poses, xy=poses.xy + rng.normal(0, 2, poses.xy.shape).astype(np.float32), id=np.array([1]))
        raw.append(poses.xy)
        smooth.append(smoother(poses, frame / RATE).xy)
    raw, smooth = np.array(raw[60:]), np.array(smooth[60:])
    assert smooth.std(0).mean() < 0.5 * raw.std(0).mean()
    assert np.diff(smooth, axis=0).std() < 0.3 * np.diff(raw, axis=0).std()


@pytest.mark.parametrize("rate", [15.0, 30.0, 60.0])
@pytest.mark.parametrize("speed", [20.0, 60.0, 200.0])  # pixels a second, of somebody 212 pixels long
def test_smoothing_lags_less_than_two_frames_of_thirty_a_second(speed, rate):
    smoother = Smoother()
    for frame in range(int(4 * rate)):
        poses = replace(people((speed * frame / rate, 0)), id=np.array([1]))
        behind = (poses.xy - smoother(poses, frame / rate).xy)[0, :, 0]
    assert 0 < behind.max() / speed < 2 / 30


def test_smoothing_works_at_three_frames_a_second():
    smoother = Smoother()
    for frame in range(5):
        poses = replace(people((4.0 * (frame % 2), 0)), id=np.array([1]))
        smooth = smoother(poses, frame / 3)
    assert 0.1 < np.abs(smooth.xy - poses.xy).max() < 4


def test_smoothing_begins_anew_after_a_gap_and_leaves_strangers_alone():
    smoother = Smoother()
    first = replace(people((100, 100), (300, 100)), id=np.array([1, -1]))
    assert smoother(first, 0.0).xy.tolist() == first.xy.tolist()
    moved = replace(people((120, 100), (320, 100)), id=np.array([1, -1]))
    soon = smoother(moved, 0.1).xy
    assert (soon[0, :, 0] < moved.xy[0, :, 0]).all()
    assert soon[1].tolist() == moved.xy[1].tolist()
    assert smoother(moved, 0.5).xy.tolist() == moved.xy.tolist()
    # A joint that was hidden for a while begins anew, too; its neighbours go on.
    blind = replace(moved, xy=moved.xy.copy(), score=moved.score.copy())
    blind.xy[0, 3], blind.score[0, 3] = np.nan, 0
    for step in range(4):
        hidden = smoother(blind, 0.6 + step / 10)
        assert np.isnan(hidden.xy[0, 3]).all()
        assert np.isfinite(np.delete(hidden.xy[0], 3, 0)).all()
    back = smoother(replace(people((130, 100)), id=np.array([1])), 1.0)
    assert back.xy[0, 3].tolist() == people((130, 100)).xy[0, 3].tolist()
    assert (back.xy[0, [4, 5], 0] < people((130, 100)).xy[0, [4, 5], 0]).all()


def test_smoothing_without_ids_says_what_is_missing():
    with pytest.raises(ValueError, match="track first"):
        Smoother()(people((0, 0)), 0.0)


def test_every_video_begins_anew_and_images_are_left_alone():
    following = Following()
    image = np.zeros((480, 640, 3), np.uint8)
    for _ in range(2):
        assert following(Frame(image, "a.mp4", 0, 0.0, 30.0), people((0, 0), (200, 0))).id.tolist() == [1, 2]
        assert following(Frame(image, "a.mp4", 1, 0.03, 30.0), people((200, 0))).id.tolist() == [2]
    assert following(Frame(image, "b.mp4", 3, 0.1, 30.0), people((200, 0))).id.tolist() == [1]
    assert following(Frame(image, "c.jpg"), people((200, 0))).id is None


def test_a_clock_that_stands_still_does_no_harm():
    following = Following(smooth=True)
    for index in range(20):
        poses = following(Frame(np.zeros((480, 640, 3), np.uint8), "0", index, 0.0, 30.0), people((2.0 * index, 0)))
        assert poses.id.tolist() == [1]
        assert np.isfinite(poses.xy).all()


def test_ids_go_with_their_people():
    poses = replace(people((0, 0), (200, 0), (400, 0)), id=np.array([7, -1, 9]))
    assert poses[[2, 0]].id.tolist() == [9, 7]
    assert poses[1].id.tolist() == [-1]
    assert Poses.from_dict(poses.to_dict()).id.tolist() == [7, -1, 9]
    assert [r["track_id"] for r in poses.to_coco(1)] == [7, -1, 9]
    assert [p["person_id"] for p in poses.to_openpose()["people"]] == [[7], [-1], [9]]
    assert Poses.from_coco(poses.to_coco(1), (640, 480)).id.tolist() == [7, -1, 9]
    assert Poses.from_openpose(poses.to_openpose(), (640, 480)).id.tolist() == [7, -1, 9]
    assert Poses.from_openpose(people((0, 0)).to_openpose(), (640, 480)).id is None
    assert {row[-1] for row in poses.to_rows("a.mp4", 1, 0.1)} == {7, -1, 9}
    assert "track_id" not in people((0, 0)).to_coco(1)[0]
    with pytest.raises(ValueError, match="2 ids for 3 people"):
        replace(poses, id=np.array([1, 2]))


def test_ids_are_drawn():
    image = np.zeros((480, 640, 3), np.uint8)
    plain = people((200, 200))
    without, stranger, with_id = (
        draw(image, p) for p in (plain, replace(plain, id=np.array([-1])), replace(plain, id=np.array([3])))
    )
    assert (without == stranger).all()
    above = slice(150, 214), slice(200, 300)
    assert (with_id[above] != without[above]).any()


@pytest.mark.parametrize("ground", [0, 128, 255])
def test_ids_can_be_read_on_any_ground(ground):
    image = np.full((480, 640, 3), ground, np.uint8)
    plain = people((200, 200))
    numbered = draw(image, replace(plain, id=np.array([3])))
    changed = numbered[(numbered != draw(image, plain)).any(2)].astype(int)
    for wanted in {255, 40} - {ground}:
        assert (np.abs(changed - wanted).max(1) < 20).sum() > 15


@pytest.mark.parametrize("place", [(-60, 200), (600, 200), (250, -40), (250, 460)])
def test_ids_at_the_border_are_whole(place):
    image = np.full((480, 640, 3), 128, np.uint8)

    def written(where):
        plain = people(where)
        numbered = draw(image, replace(plain, id=np.array([1234])))
        return int((numbered != draw(image, plain)).any(2).sum())

    assert written(place) > 0.95 * written((250, 200))


def test_guesses_do_not_make_anybody_less_certain():
    score = np.where(np.arange(17) < 8, 0.6, 0.05).astype("f4")[None]
    poses = Poses(
        np.random.default_rng(0).uniform(0, 99, (1, 17, 2)).astype("f4"), score, score.mean(1), COCO_17, (99, 99)
    )
    assert Tracker()(poses, 0.0).id.tolist() == [-1]
    assert Tracker(guessed=DecodeConfig(complete=True).guessed)(poses, 0.0).id.tolist() == [1]
