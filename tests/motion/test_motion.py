"""Angles of made-up skeletons, whose angles are known, through files and the command line."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from lithepose.cli import main
from lithepose.errors import ConfigError
from lithepose.motion.angles import JOINT_ANGLES, available, body_length, choose, measure
from lithepose.motion.filter import fill_gaps, low_pass
from lithepose.poses import Poses
from lithepose.skeleton import BODY_25, COCO_17, FLIC_11, LSP_14, OPENPOSE_18, Skeleton
from lithepose.writers.results import open_results
from lithepose.writers.resume import SavedFrame

RATE = 50.0
TIMES = np.arange(100) / RATE
KNEE, ELBOW = 30 + 25 * np.sin(2 * np.pi * TIMES), 400 * TIMES / 2  # the elbow turns more than once around


def step(degrees: np.ndarray | float, length: float) -> np.ndarray:
    """(T, 2) pixels of a segment that points so, counter-clockwise from the right on the screen."""
    turn = np.radians(np.broadcast_to(degrees, TIMES.shape))
    return length * np.stack([np.cos(turn), -np.sin(turn)], 1)


def walker(skeleton: Skeleton = COCO_17) -> np.ndarray:
    """(T, K, 2): a person who leans to 80 degrees; the left knee and elbow turn, the right ones do not."""
    joints = {"left_hip": np.array([300.0, 300.0]) + 2 * np.stack([TIMES, TIMES], 1)}
    joints["right_hip"] = joints["left_hip"] + (-20, 0)
    for side, knee, elbow in (("left", KNEE, ELBOW), ("right", 0 * KNEE, 0 * KNEE)):
        hip = joints[f"{side}_hip"]
        joints[f"{side}_knee"] = hip + step(-70, 90)
        joints[f"{side}_ankle"] = joints[f"{side}_knee"] + step(-70 + knee, 80)
        joints[f"{side}_heel"] = joints[f"{side}_ankle"] + step(-90, 10)
        joints[f"{side}_big_toe"] = joints[f"{side}_ankle"] + step(10, 30)
        joints[f"{side}_shoulder"] = hip + step(80, 120)
        joints[f"{side}_elbow"] = joints[f"{side}_shoulder"] + step(-40, 60)
        joints[f"{side}_wrist"] = joints[f"{side}_elbow"] + step(-40 + elbow, 50)
    joints["neck"] = (joints["left_shoulder"] + joints["right_shoulder"]) / 2
    joints["mid_hip"] = (joints["left_hip"] + joints["right_hip"]) / 2
    joints["head_top"] = joints["neck"] + step(95, 40)
    return np.stack([joints.get(name, joints["neck"]) for name in skeleton.joints], 1)


def write(path: Path, xy: np.ndarray, ids: bool = True, times: np.ndarray = TIMES) -> None:
    file = open_results(path)
    for t, frame in enumerate(xy):
        score = np.isfinite(frame[None, :, 0]).astype(np.float32) * 0.9
        number = np.array([3]) if ids else None
        people = Poses(frame[None].astype(np.float32), score, np.ones(1, np.float32), COCO_17, (640, 480), number)
        file.write(SavedFrame("clip.mp4", t, float(times[t])), people)
    file.close()


def read(path: Path) -> dict[str, list[dict[str, str]]]:
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: [row for row in rows if row["name"] == name] for name in dict.fromkeys(row["name"] for row in rows)}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("ids", [True, False])
def test_known_angles_come_back_within_a_tenth_of_a_degree(folder, ids):
    write(folder / "poses.jsonl", walker(), ids)
    assert main(["angles", "poses.jsonl"]) == 0
    found = read(folder / "angles.csv")
    expected = {
        "left_knee": KNEE, "right_knee": 0, "left_elbow": ELBOW, "right_elbow": 0, "left_hip": 30, "left_shoulder": 60,
        "left_thigh": -70, "left_shank": -70 + KNEE, "left_forearm": -40 + ELBOW, "trunk": 80, "pelvis": 0,
    }  # fmt: skip
    for name, degrees in expected.items():
        assert len(found[name]) == len(TIMES)
        own = np.array([float(row["degrees"]) for row in found[name]])
        apart = own - degrees
        if name == "left_elbow":  # a joint's angle lies within one turn, a segment's goes on
            assert np.abs(own).max() <= 180
            apart = (apart + 180) % 360 - 180
        assert np.abs(apart).max() < 0.1, name
    first = found["left_knee"][7]
    assert (first["source"], first["frame"], first["time"]) == ("clip.mp4", "7", "0.14")
    assert (first["id"], first["person"], first["filled"]) == ("3" if ids else "1", "0", "0")


def test_counter_clockwise_on_the_screen_is_positive():
    """A forearm that hangs straight and then is lifted towards the right of the image turns counter-clockwise."""
    xy = np.zeros((1, 17, 2))
    for name, place in {"left_shoulder": (100, 100), "left_elbow": (100, 150), "left_wrist": (150, 150)}.items():
        xy[0, COCO_17.joints.index(name)] = place
    (elbow,) = (angle for angle in JOINT_ANGLES if angle.name == "left_elbow")
    assert measure(elbow, xy, COCO_17) == pytest.approx([90])


@pytest.mark.parametrize(
    ("skeleton", "has", "lacks"),
    [
        (COCO_17, {"left_knee", "trunk", "pelvis"}, {"left_ankle", "left_foot", "head"}),
        (OPENPOSE_18, {"left_knee", "trunk"}, {"left_ankle"}),
        (BODY_25, {"left_knee", "left_ankle", "right_foot"}, {"head"}),
        (LSP_14, {"left_knee", "head"}, {"left_ankle"}),
        (FLIC_11, {"left_elbow", "trunk", "left_shoulder"}, {"left_knee", "left_thigh"}),
    ],
)
def test_a_skeleton_has_the_angles_of_its_joints(skeleton, has, lacks):
    names = {angle.name for angle in available(skeleton)}
    assert has <= names
    assert not lacks & names
    xy, known = walker(skeleton), {"left_ankle": 80 - KNEE, "left_knee": KNEE, "head": 95, "trunk": 80}
    for angle in available(skeleton):
        if angle.name in known:
            assert measure(angle, xy, skeleton) == pytest.approx(known[angle.name] + 0 * KNEE), angle.name


def test_choosing():
    assert [a.name for a in choose("knee,left_elbow", COCO_17)] == ["left_knee", "right_knee", "left_elbow"]
    assert {a.name for a in choose("joints", COCO_17)} | {a.name for a in choose("segments", COCO_17)} == {
        a.name for a in choose("all", COCO_17)
    }
    with pytest.raises(ConfigError, match=r"'tail': not available for coco17; .* knee, hip, elbow"):
        choose("tail", COCO_17)
    with pytest.raises(ConfigError, match="'knee': not available for flic11"):
        choose("knee", FLIC_11)


def test_distances_are_in_body_lengths(folder):
    write(folder / "poses.jsonl", walker())
    assert body_length(walker(), COCO_17) == pytest.approx(120 + 90 + 80)
    assert main(["angles", "poses.jsonl", "--distances", "left_hip-right_hip,ankles"]) == 0
    found = read(folder / "distances.csv")
    for row in found["left_hip-right_hip"]:
        assert float(row["pixels"]) == pytest.approx(20, abs=0.02)
        assert float(row["body_lengths"]) == pytest.approx(20 / 290, abs=1e-4)
    assert len(found["left_ankle-right_ankle"]) == len(TIMES)


def test_gaps_up_to_a_length_are_filled(folder):
    xy = walker()
    ankle = COCO_17.joints.index("left_ankle")
    xy[10:14, ankle] = np.nan
    xy[40:60, ankle] = np.nan
    write(folder / "poses.jsonl", xy)
    assert main(["angles", "poses.jsonl", "--angles", "left_knee", "--fill", "0.1"]) == 0
    rows = read(folder / "angles.csv")["left_knee"]
    assert [int(row["frame"]) for row in rows] == [*range(40), *range(60, 100)]
    assert [int(row["frame"]) for row in rows if row["filled"] == "1"] == [10, 11, 12, 13]
    filled, which = fill_gaps(xy[:, [ankle]], TIMES, 0.1)
    assert filled[11, 0] == pytest.approx(xy[9, ankle] + (xy[14, ankle] - xy[9, ankle]) * 2 / 5)
    assert which.sum() == 4


def test_the_low_pass_halves_the_power_at_its_cutoff_and_has_no_delay():
    times = np.arange(2000) / 100
    for frequency, gain in ((1.0, 1.0), (6.0, np.sqrt(0.5)), (30.0, 0.0)):
        wave = np.sin(2 * np.pi * frequency * times)
        xy = np.stack([wave, wave], 1)[:, None]
        smooth = low_pass(xy, times, 6.0)[500:1500, 0, 0]
        assert np.abs(smooth - gain * wave[500:1500]).max() < 0.01, frequency


def test_irregular_times_are_resampled_and_it_is_said(folder, capsys):
    times = np.cumsum(np.random.default_rng(0).uniform(0.01, 0.03, 100))
    knee = 30 + 25 * np.sin(2 * np.pi * times / 2)
    xy = walker()
    joint = {name: COCO_17.joints.index(name) for name in ("left_knee", "left_ankle")}
    xy[:, joint["left_ankle"]] = xy[:, joint["left_knee"]] + step(-70 + knee, 80)
    write(folder / "poses.jsonl", xy, times=times)
    call = ["angles", "poses.jsonl", "--angles", "left_knee", "--lowpass", "6"]
    assert main(call) == 0
    assert "resampled to even steps" in capsys.readouterr().err
    own = np.array([float(row["degrees"]) for row in read(folder / "angles.csv")["left_knee"]])
    assert np.abs(own - knee)[10:-10].max() < 1.0


def test_nothing_is_filtered_across_a_pause():
    times = np.concatenate([np.arange(40), 100 + np.arange(40)]) / 50
    xy = np.repeat(np.where(np.arange(80) < 40, 10.0, 90.0)[:, None, None], 2, 2)
    assert low_pass(xy, times, 6.0) == pytest.approx(xy)


def test_short_pieces_are_left_out_of_the_low_pass_and_it_is_said(folder, capsys):
    xy = walker()
    xy[10::11] = np.nan
    write(folder / "poses.jsonl", xy)
    assert main(["angles", "poses.jsonl", "--lowpass", "6"]) == 0
    assert "use --fill to fill gaps" in capsys.readouterr().err
    assert main(["angles", "poses.jsonl", "--lowpass", "6", "--fill", "0.05", "--overwrite"]) == 0
    assert len(read(folder / "angles.csv")["left_knee"]) == 100


def test_a_plot_over_time(folder):
    write(folder / "poses.jsonl", walker())
    assert main(["angles", "poses.jsonl", "--angles", "knee,elbow", "--plot", "angles.png"]) == 0
    assert (folder / "angles.png").read_bytes()[:4] == b"\x89PNG"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--angles", "tail"], "'tail': not available for coco17"),
        (["--distances", "nose-tail"], "'nose-tail': must be two joints"),
        (["--lowpass", "30"], "below half"),
        (["--fill", "-1"], "must be 0 or more"),
        (["--plot", "angles.txt"], ".png, .svg"),
        (["--out", "angles.txt"], "angles.txt: must be a .csv file"),
    ],
)
def test_what_cannot_be_measured_is_refused(folder, capsys, arguments, says):
    write(folder / "poses.jsonl", walker())
    assert main(["angles", "poses.jsonl", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not list(folder.glob("angles*"))


def test_angles_of_an_earlier_call_are_not_replaced(folder, capsys):
    write(folder / "poses.jsonl", walker())
    (folder / "angles.csv").write_text("mine")
    assert main(["angles", "poses.jsonl"]) == 2
    assert "angles.csv: already exists; use --overwrite" in capsys.readouterr().err
    assert (folder / "angles.csv").read_text() == "mine"
