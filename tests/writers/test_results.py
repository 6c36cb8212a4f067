"""Result files: every format, going on with an earlier call, parts that are joined."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

import lithepose
from lithepose.cli import main
from lithepose.errors import ConfigError, DatasetError, OutputError
from lithepose.media.sources import Frame
from lithepose.poses import Poses
from lithepose.skeleton import BODY_25, COCO_17, OPENPOSE_18
from lithepose.writers.results import ResultConfig, check_format, open_results, read_ids
from lithepose.writers.resume import SavedFrame, finished_sources, merged, read_results

SAMPLES = Path(lithepose.__file__).parent / "samples"


def poses(n: int = 2, ids: bool = True) -> Poses:
    rng = np.random.default_rng(n)
    xy, score = rng.uniform(0, 100, (n, 17, 2)).astype(np.float32), rng.uniform(0.2, 1, (n, 17)).astype(np.float32)
    score[:, 3] = 0
    xy[score == 0] = np.nan
    number = np.arange(1, n + 1) if ids and n else None
    box = np.tile(np.float32([1, 2, 90, 80]), (n, 1))
    return Poses(xy, score, np.linspace(0.9, 0.5, n).astype(np.float32), COCO_17, (120, 100), number, box)


def frame(source: str, index: int | None = None) -> Frame:
    time = None if index is None else index / 25
    return Frame(np.zeros((100, 120, 3), np.uint8), source, index, time, 25.0)


def written(path: Path, format: str = "", config: ResultConfig | None = None) -> None:
    file = open_results(path, format, config)
    for item, found in ((frame("a.jpg"), poses()), (frame("b.jpg"), poses(0)), (frame("c.mp4", 0), poses(1))):
        file.write(item, found)
    file.close()


def test_a_frame_without_people_has_its_row(tmp_path):
    written(tmp_path / "r.csv")
    rows = list(csv.DictReader(lines(tmp_path / "r.csv")))
    assert [row["source"] for row in rows if not row["joint"]] == ["b.jpg"]
    written(tmp_path / "w.csv", "csv-wide")
    rows = list(csv.DictReader(lines(tmp_path / "w.csv")))
    assert [row["person"] for row in rows] == ["0", "1", "", "0"]
    assert float(rows[0]["nose_x"]) == pytest.approx(poses().xy[0, 0, 0], abs=0.01)
    assert rows[0]["left_ear_x"] == rows[0]["left_ear_score"] == ""
    assert rows[1]["box_width"] == "90.0"


def test_parquet_has_the_columns_and_types_of_the_wide_csv(tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    written(tmp_path / "r.parquet")
    table = parquet.read_table(tmp_path / "r.parquet")
    assert table.num_rows == 4
    assert table["source"].to_pylist() == ["a.jpg", "a.jpg", "b.jpg", "c.mp4"]
    assert table["id"].to_pylist() == [1, 2, None, 1]
    assert table["frame"].to_pylist() == [None, None, None, 0]
    assert table["nose_x"].to_pylist()[0] == pytest.approx(poses().xy[0, 0, 0], abs=0.01)
    assert table["left_ear_y"].to_pylist() == [None] * 4
    assert list(tmp_path.iterdir()) == [tmp_path / "r.parquet"]


@pytest.mark.parametrize(("format", "skeleton"), [("openpose", OPENPOSE_18), ("openpose25", BODY_25)])
def test_openpose_files_have_all_keys_and_come_back(tmp_path, format, skeleton):
    written(tmp_path / "op", format)
    data = json.loads((tmp_path / "op" / "a_keypoints.json").read_text())
    assert data["source"] == "a.jpg"
    assert {f"{part}_keypoints_2d" for part in ("pose", "face", "hand_left", "hand_right")} <= data["people"][0].keys()
    back = Poses.from_openpose(data, (120, 100))
    assert back.skeleton == skeleton
    assert back.id.tolist() == [1, 2]
    shared = poses().to_skeleton(skeleton)
    assert np.allclose(np.nan_to_num(back.xy), np.nan_to_num(shared.xy), atol=1e-3)
    if skeleton == BODY_25:
        middle = poses().xy[0, 11:13].mean(0)
        assert np.allclose(back.xy[0, BODY_25.joints.index("mid_hip")], middle, atol=1e-3)
        assert not back.found[:, BODY_25.joints.index("left_heel")].any()


def test_trc_has_a_file_for_every_person_of_a_video(tmp_path):
    file = open_results(tmp_path / "trc", "trc")
    for index in range(3):
        file.write(frame("dance.mp4", index), poses(2))
    file.write(frame("a.jpg"), poses(2))
    file.close()
    assert sorted(p.name for p in (tmp_path / "trc").iterdir()) == ["dance_person1.trc", "dance_person2.trc"]
    lines = (tmp_path / "trc" / "dance_person1.trc").read_text().splitlines()
    heads, values = lines[1].split("\t"), lines[2].split("\t")
    head = dict(zip(heads, values, strict=True))
    assert (head["DataRate"], head["NumFrames"], head["NumMarkers"]) == ("25.0000", "3", "17")
    cells = lines[6].split("\t")
    x, y = poses(2).xy[0, 0]
    assert (cells[0], float(cells[1])) == ("1", 0.0)
    assert np.allclose([float(cells[2]), float(cells[3])], [x, 99 - y], atol=1e-3)
    assert cells[2 + 3 * 3] == ""  # the left ear, which was not found
    assert len(cells) == 2 + 3 * 17


def test_coco_ids_by_file_name(tmp_path):
    images = [
        {"id": 40, "file_name": "train/a.jpg"},
        {"id": 41, "file_name": "val/a.jpg"},
        {"id": 50, "file_name": "x/b.jpg"},
    ]
    (tmp_path / "own.json").write_text(json.dumps({"images": images}))
    file = open_results(tmp_path / "r.json", "coco", ResultConfig(ids=read_ids(tmp_path / "own.json")))
    for source in ("/data/val/a.jpg", "b.jpg"):
        file.write(frame(source), poses(1))
    with pytest.raises(OutputError, match=r"c\.jpg: not found in the file of --ids-from"):
        file.write(frame("c.jpg"), poses(1))
    file.close()
    assert [r["image_id"] for r in json.loads((tmp_path / "r.json").read_text())] == [41, 50]
    (tmp_path / "words.json").write_text(json.dumps({"images": [{"id": "a", "file_name": "a.jpg"}]}))
    with pytest.raises(ConfigError, match="ids must be integers"):
        read_ids(tmp_path / "words.json")


@pytest.mark.parametrize(("name", "format"), [("r.xlsx", ""), ("r.csv", "coco"), ("r.jsonl", "csv")])
def test_suffixes_of_other_formats_are_refused(tmp_path, name, format):
    with pytest.raises(ConfigError, match="cannot be written" if not format else f"--format {format}"):
        check_format(tmp_path / name, format) if format else open_results(tmp_path / name)


def test_results_come_back_with_boxes_and_ids(tmp_path):
    for name in ("r.jsonl", "r.json"):
        written(tmp_path / name)
        (first, found), (second, none), (third, _) = read_results(tmp_path / name)
        assert first == SavedFrame("a.jpg", None, None)
        assert (second.source, len(none)) == ("b.jpg", 0)
        assert third.name == "c.mp4 frame 0"
        assert np.allclose(found.boxes, poses().boxes)
        assert found.id.tolist() == [1, 2]


def test_what_follows_the_last_whole_result_is_done_again(tmp_path):
    path = tmp_path / "r.jsonl"
    written(path)
    whole = path.read_bytes()
    assert finished_sources(path) == ["a.jpg", "b.jpg", "c.mp4"]  # another call's video is kept
    assert path.read_bytes() == whole
    assert finished_sources(path, {"c.mp4"}) == ["a.jpg", "b.jpg"]  # the video may have been cut short
    assert path.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    path.write_bytes(whole + b'{"source": "d.jpg", "fra')
    assert finished_sources(path, {"c.mp4"}) == ["a.jpg", "b.jpg"]
    path.write_bytes(whole + whole.splitlines(keepends=True)[0].replace(b"a.jpg", b"d.jpg"))
    assert finished_sources(path) == ["a.jpg", "b.jpg", "c.mp4", "d.jpg"]
    path.write_text("something else\n")
    with pytest.raises(DatasetError, match="line 1: not a result of lithepose predict"):
        finished_sources(path)
    assert finished_sources(tmp_path / "new.jsonl") == []


def test_of_a_frame_that_two_files_have_the_first_is_taken(tmp_path):
    written(tmp_path / "1.jsonl")
    written(tmp_path / "2.jsonl")
    assert [item.source for item, _ in merged([tmp_path / "1.jsonl", tmp_path / "2.jsonl"])] == [
        "a.jpg",
        "b.jpg",
        "c.mp4",
    ]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """Seven images, two of one name."""
    monkeypatch.chdir(tmp_path)
    for name in ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "6.jpg", "other/1.jpg"):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(SAMPLES / ("astronaut.jpg" if name < "4" else "camera.jpg"), path)
    return tmp_path


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_parts_joined_are_the_whole(folder):
    sources = ["images", "images/other"]
    assert main(["predict", *sources, "--json", "all.jsonl"]) == 0
    for part in ("1/3", "2/3", "3/3"):
        assert main(["predict", *sources, "--out", "drawn", "--shard", part]) == 0
    names = [str(Path("drawn") / f"poses-{k}-of-3.jsonl") for k in (1, 2, 3)]
    assert main(["merge", *names, "--out", "merged.jsonl"]) == 0
    assert lines(folder / "merged.jsonl") == lines(folder / "all.jsonl")
    assert {p.name for p in (folder / "drawn").glob("*.jpg")} == {*(f"{i}.jpg" for i in range(1, 7)), "1-2.jpg"}
    assert main(["merge", *names, "--out", "merged.json", "--format", "coco"]) == 0
    results = json.loads((folder / "merged.json").read_text())
    assert len({r["image_id"] for r in results}) == len({r["file_name"] for r in results}) >= 2
    assert main(["merge", *names, "--out", "merged.jsonl"]) == 2  # it is there already


def test_an_interrupted_call_is_gone_on_with(folder):
    assert main(["predict", "images", "--json", "all.jsonl"]) == 0
    assert main(["predict", "images", "--out", "drawn"]) == 0
    path = folder / "drawn" / "poses.jsonl"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]) + '{"source": "images/3')
    (folder / "drawn" / "3.jpg").unlink()
    assert main(["predict", "images", "--out", "drawn"]) == 2
    assert main(["predict", "images", "--out", "drawn", "--resume"]) == 0
    assert lines(path) == lines(folder / "all.jsonl")
    assert {p.name for p in (folder / "drawn").glob("*.jpg")} == {f"{i}.jpg" for i in range(1, 7)}


def test_results_of_an_earlier_call_are_not_replaced(folder):
    assert main(["predict", "images/1.jpg"]) == main(["predict", "images/5.jpg"]) == 0
    assert lines(folder / "out" / "poses.jsonl") != lines(folder / "out-2" / "poses.jsonl")
    before = (folder / "out" / "1.jpg").read_bytes()
    assert main(["predict", "images/other/1.jpg", "--out", "out", "--json", "more.jsonl"]) == 0
    assert (folder / "out" / "1.jpg").read_bytes() == before
    assert (folder / "out" / "1-2.jpg").exists()
    assert main(["predict", "images/5.jpg", "--out", "out", "--overwrite"]) == 0
    assert lines(folder / "out" / "poses.jsonl") == lines(folder / "out-2" / "poses.jsonl")


@pytest.mark.parametrize("shard", ["3", "0/4", "5/4", "a/b", "1/"])
def test_parts_that_there_are_not(folder, shard, capsys):
    assert main(["predict", "images", "--shard", shard]) == 2
    assert "must be K/N" in capsys.readouterr().err


def test_scores_and_places_are_plain_numbers(tmp_path):
    written(tmp_path / "r.jsonl")
    data = json.loads(lines(tmp_path / "r.jsonl")[0])
    values = [value for person in data["people"] for joint in person["joints"].values() if joint for value in joint]
    assert all(isinstance(value, float) and math.isfinite(value) for value in values)


def test_a_recording_is_not_gone_on_with(folder, capsys):
    written(folder / "r.jsonl")
    before = (folder / "r.jsonl").read_bytes()
    assert main(["predict", "rtsp://camera/live", "--json", "r.jsonl", "--resume"]) == 2
    assert "--resume: only works with files" in capsys.readouterr().err
    assert main(["predict", "images/1.jpg", "--json", "r.jsonl", "--resume"]) == 0
    assert (folder / "r.jsonl").read_bytes().startswith(before)


def test_parquet_of_no_frame_leaves_the_earlier_file(tmp_path):
    pytest.importorskip("pyarrow")
    written(tmp_path / "r.parquet")
    before = (tmp_path / "r.parquet").read_bytes()
    open_results(tmp_path / "r.parquet").close()
    assert (tmp_path / "r.parquet").read_bytes() == before


def test_faces_of_people_left_out_are_not_said_to_be_hidden(folder, capsys):
    assert main(["predict", "images/1.jpg", "--hide-faces", "--max-people", "1"]) == 2
    assert "omit --person, --region, --max-people, --min-person" in capsys.readouterr().err


def test_a_damaged_input_of_merge_costs_no_earlier_result(folder, capsys):
    written(folder / "1.jsonl")
    (folder / "2.jsonl").write_text("damaged\n")
    (folder / "all.csv").write_text("earlier\n")
    assert main(["merge", "1.jsonl", "2.jsonl", "--out", "all.csv", "--overwrite"]) == 2
    assert "2.jsonl: line 1: not valid JSON" in capsys.readouterr().err
    assert (folder / "all.csv").read_text() == "earlier\n"


def test_results_of_different_joints_are_not_joined(folder, capsys):
    written(folder / "1.jsonl")
    file = open_results(folder / "2.jsonl")
    file.write(frame("d.jpg"), poses().to_skeleton(OPENPOSE_18))
    file.close()
    assert main(["merge", "1.jsonl", "2.jsonl", "--out", "all.csv"]) == 2
    assert "different joints (coco17, openpose18)" in capsys.readouterr().err
    assert not (folder / "all.csv").exists()


def test_a_part_without_inputs_is_empty(folder):
    Path("boxes.json").write_text(json.dumps({"1.jpg": [[0, 0, 100, 100]]}))
    call = ["predict", "images/1.jpg", "--boxes", "boxes.json", "--json", "part.jsonl", "--shard", "1/2"]
    assert main(call) == 0
    assert (folder / "part.jsonl").read_text() == ""


def test_progress_without_a_terminal_is_a_line_with_the_place_of_the_input(folder, monkeypatch, capsys):
    monkeypatch.setattr("lithepose.cli.calls.progress.EVERY", 0.0)
    assert main(["predict", "images/1.jpg", "images/5.jpg", "images/1.jpg", "--json", "r.jsonl"]) == 0
    said = capsys.readouterr().err
    assert "input 2 of 3 (5.jpg)" in said
    assert "input 4 of 3" not in said
