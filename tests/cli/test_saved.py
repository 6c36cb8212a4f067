"""Commands on saved results: draw, and predict --angles, which is angles on its own results."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import SAMPLES, figure, write_video

from lithepose.cli import main
from lithepose.media.inputs import expand
from lithepose.media.sources import Frame, frames
from lithepose.poses import Poses
from lithepose.skeleton import COCO_17, Skeleton
from lithepose.writers.results import open_results
from lithepose.writers.resume import SavedFrame
from lithepose.writers.video import VideoWriter


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def person(size: tuple[int, int] = (64, 48), skeleton: Skeleton = COCO_17, number: int = 1) -> Poses:
    joints = figure(20, 4, 40)[None, : len(skeleton)].astype(np.float32)
    score = np.ones((1, len(skeleton)), np.float32)
    return Poses(joints[..., :2], score, np.ones(1, np.float32), skeleton, size, np.array([number]))


def save(path: Path, source: str, count: int = 0, **options: object) -> None:
    """Results of a video of so many frames at 10 frames a second, or of an image."""
    file = open_results(path)
    for i in range(max(count, 1)):
        place = SavedFrame(source, i, i / 10) if count else SavedFrame(source, None, None)
        file.write(place, person(**options))  # pyright: ignore[reportArgumentType]
    file.close()


def test_drawing_again_is_what_predict_drew(folder):
    (folder / "image.png").write_bytes(cv2.imencode(".png", cv2.imread(str(SAMPLES / "astronaut.jpg")))[1].tobytes())
    assert main(["predict", "image.png", "--out", "out", "--colour", "#00ff00"]) == 0
    assert main(["draw", "out/poses.jsonl", "--colour", "#00ff00"]) == 0
    first, again = cv2.imread("out/image.png"), cv2.imread("drawn/image.png")
    differ = (np.abs(first.astype(int) - again) > 20).any(2).mean()  # joints were saved with two digits
    assert differ < 1e-3
    assert (np.abs(first.astype(int) - cv2.imread("image.png")) > 60).any(2).mean() > 0.005


def test_a_video_is_drawn_again_with_other_styles(folder):
    write_video(folder / "clip.mp4", 5)
    save(folder / "poses.jsonl", "clip.mp4", 5)
    call = ["draw", "poses.jsonl", "clip.mp4", "--out", "again", "--background", "black", "--trails", "1"]
    assert main(call) == 0
    drawn = [f.image for f in frames(expand(["again/clip.mp4"])) if isinstance(f, Frame)]
    assert len(drawn) == 5
    assert drawn[3].max() > 100
    assert np.median(drawn[3]) < 20


def test_a_file_that_was_moved_is_found_by_its_name(folder):
    (folder / "new").mkdir()
    write_video(folder / "new" / "clip.mp4", 3)
    save(folder / "poses.jsonl", "old/clip.mp4", 3)
    assert main(["draw", "poses.jsonl", "new/clip.mp4"]) == 0
    assert len(list(frames(expand(["drawn/clip.mp4"])))) == 3


@pytest.mark.parametrize(
    ("count", "size", "arguments", "says"),
    [
        (3, (128, 96), [], "clip.mp4 frame 0: has size 64x48, but the results in poses.jsonl are for 128x96"),
        (9, (64, 48), [], "poses.jsonl contains 9 results for it, but 5 matching frames were found"),
        (5, (64, 48), ["--start", "0.2"], "pass the --start that they were made with"),
    ],
)
def test_frames_that_do_not_fit_are_errors(folder, capsys, count, size, arguments, says):
    write_video(folder / "clip.mp4", 5)
    save(folder / "poses.jsonl", "clip.mp4", count, size=size)
    assert main(["draw", "poses.jsonl", *arguments]) == 1
    assert says in capsys.readouterr().err


def test_an_image_without_results_is_an_error_and_the_others_are_drawn(folder, capsys):
    for name in ("a.png", "b.png"):
        cv2.imwrite(name, np.zeros((48, 64, 3), np.uint8))
    save(folder / "poses.jsonl", "a.png")
    assert main(["draw", "poses.jsonl", "a.png", "b.png", "--out", "."]) == 1
    assert "b.png: no results in poses.jsonl" in capsys.readouterr().err
    assert cv2.imread("a.png").max() == 0, "the image itself is kept"
    assert cv2.imread("a-2.png").max() > 100
    assert main(["draw", "none.jsonl"]) == 2
    assert main(["draw", "poses.jsonl", "a.png", "--trails", "-1"]) == 2


def test_predict_measures_what_angles_measures_in_its_results(folder):
    with VideoWriter(folder / "clip.mp4", 10) as video:
        for i in range(4):
            video.write(cv2.imread(str(SAMPLES / "camera.jpg"))[..., ::-1], i / 10)
    call = ["predict", "clip.mp4", str(SAMPLES / "astronaut.jpg"), "--out", "out"]
    assert main([*call, "--angles", "elbow,shoulders", "--distances", "wrists"]) == 0
    assert main(["angles", "out/poses.jsonl", "--out", "own.csv", "--angles", "elbow,shoulders"]) == 0
    tables = [list(csv.DictReader(Path(name).read_text().splitlines())) for name in ("out/angles.csv", "own.csv")]
    pairs = list(zip(*tables, strict=True))
    assert {row["name"] for row, _ in pairs} == {"right_elbow", "shoulders"}
    assert {row["source"] for row, _ in pairs} == {"clip.mp4", str(SAMPLES / "astronaut.jpg")}
    for one, other in pairs:
        assert [one[k] for k in ("source", "name", "person")] == [other[k] for k in ("source", "name", "person")]
        assert float(one["degrees"]) == pytest.approx(float(other["degrees"]), abs=0.1)  # joints are saved rounded
    assert (folder / "out" / "distances.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--angles", "tail"], "'tail': not available for coco17"),
        (["--lowpass", "6"], "--lowpass: nothing to measure"),
        (["--distances", "wrists", "--plot", "a.png"], "no angles to plot; add --angles"),
        (["--angles", "knee", "--json", "-"], "cannot be used with --json -"),
        (["--angles", "knee", "--shard", "1/2"], "cannot be used with --shard; run `lithepose angles poses.jsonl`"),
        (["--json", "r.jsonl", "--fade", "--colour", "id"], "--colour, --fade: nothing is drawn with only --json"),
        (["--format", "trc"], "only works with videos"),
    ],
)
def test_options_that_do_not_go_together(folder, capsys, arguments, says):
    assert main(["predict", str(SAMPLES / "camera.jpg"), *arguments]) == 2
    assert says in capsys.readouterr().err
    assert not list(folder.iterdir())


def test_merge_knows_joints_of_own_models_and_addresses_that_differ_in_their_query(folder):
    own = Skeleton("mine", ("tip", "tail", "left_end", "right_end"))
    for name, source in (("a", "a.jpg"), ("b", "b.jpg")):
        save(folder / f"{name}.jsonl", source, skeleton=own)
    empty = Poses.empty(own, (64, 48))
    file = open_results(folder / "c.jsonl")
    file.write(SavedFrame("c.jpg", None, None), empty)
    file.close()
    assert main(["merge", "c.jsonl", "a.jsonl", "b.jsonl", "--out", "all.csv"]) == 0
    rows = list(csv.DictReader(Path("all.csv").read_text().splitlines()))
    assert [row["joint"] for row in rows] == ["", *own.joints, *own.joints]
    for name, number in (("d", 1), ("e", 2), ("f", 1)):
        save(folder / f"{name}.jsonl", "https://x.org/image", number=number)
    assert main(["merge", "d.jsonl", "e.jsonl", "f.jsonl", "--out", "all.jsonl"]) == 0
    ids = [json.loads(line)["people"][0]["id"] for line in Path("all.jsonl").read_text().splitlines()]
    assert ids == [1, 2], "the third file has what the first one has"


def test_merge_to_trc_needs_videos(folder, capsys):
    save(folder / "a.jsonl", "a.jpg")
    assert main(["merge", "a.jsonl", "--out", "t", "--format", "trc"]) == 2
    assert "only works with videos" in capsys.readouterr().err


def test_trc_files_of_people_who_are_no_longer_there_go(folder):
    save(folder / "two.jsonl", "clip.mp4", 2, number=2)
    save(folder / "one.jsonl", "clip.mp4", 2, number=1)
    (folder / "t").mkdir()
    (folder / "t" / "clip_person_notes.trc").write_text("mine")
    for name in ("two", "one"):
        assert main(["merge", f"{name}.jsonl", "--out", "t", "--format", "trc", "--overwrite"]) == 0
    assert sorted(p.name for p in (folder / "t").iterdir()) == ["clip_person1.trc", "clip_person_notes.trc"]


def test_a_call_that_breaks_leaves_earlier_parquet_and_trc_files(folder, monkeypatch):
    (folder / "p.parquet").write_bytes(b"earlier")
    write_video(folder / "clip.mp4", 3)

    def broken(*_: object) -> None:
        raise ValueError("a fault")

    monkeypatch.setattr("lithepose.inference.top_down.TopDown.find", broken)
    with pytest.raises(ValueError, match="a fault"):
        main(["predict", "clip.mp4", "--json", "p.parquet", "--overwrite", "--model", "lithe"])
    assert (folder / "p.parquet").read_bytes() == b"earlier"
    assert not list(folder.glob("*.part"))
