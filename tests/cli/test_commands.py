"""The command line as users run it: in a process of its own."""

from __future__ import annotations

import csv
import json
import struct
import subprocess
import sys
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from conftest import SAMPLES, write_video
from PIL import Image

import lithepose as package
from lithepose.cli import main
from lithepose.media.inputs import expand
from lithepose.media.sources import Frame, frames
from lithepose.poses import Poses


def lithepose(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lithepose", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=300, check=False)


def test_demo_finds_the_person(tmp_path):
    done = lithepose("demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "nose" in done.stdout
    drawn = cv2.imread(str(tmp_path / "lithepose-demo.jpg"))
    plain = cv2.imread(str(SAMPLES / "astronaut.jpg"))
    assert drawn.shape == plain.shape
    assert (np.abs(drawn.astype(int) - plain) > 60).any(2).sum() > 200, "something is drawn"


def test_the_main_job_loads_no_torch(tmp_path):
    code = (
        "import sys; from lithepose.cli import main;"
        f"code = main(['predict', {str(SAMPLES / 'astronaut.jpg')!r}, '--out', {str(tmp_path)!r}]);"
        "assert not {'torch', 'onnx', 'faster_coco_eval'} & set(sys.modules), sorted(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    light = "import lithepose, sys; assert not {'torch', 'cv2', 'onnxruntime', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True, timeout=60)


def test_images_to_drawings_and_json(tmp_path):
    done = lithepose("predict", SAMPLES / "astronaut.jpg", SAMPLES / "camera.jpg", "--out", "drawn", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "2 frames" in done.stderr
    lines = [json.loads(line) for line in (tmp_path / "drawn" / "poses.jsonl").read_text().splitlines()]
    assert [Path(line["source"]).name for line in lines] == ["astronaut.jpg", "camera.jpg"]
    people = Poses.from_dict(lines[0])
    assert len(people) >= 1
    nose = people.xy[0, people.joints.index("nose")]
    assert np.abs(nose - (226, 122)).max() < 30
    for name in ("astronaut.jpg", "camera.jpg"):
        assert cv2.imread(str(tmp_path / "drawn" / name)).shape == (512, 512, 3)


def test_without_out_images_go_to_out_and_json_alone_draws_nothing(tmp_path):
    assert lithepose("predict", SAMPLES / "astronaut.jpg", cwd=tmp_path).returncode == 0
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["astronaut.jpg", "poses.jsonl"]
    alone = tmp_path / "alone"
    alone.mkdir()
    done = lithepose("predict", SAMPLES / "astronaut.jpg", "--json", "-", cwd=alone)
    assert json.loads(done.stdout)["people"]
    assert list(alone.iterdir()) == []


@pytest.mark.parametrize("format", ["coco", "csv", "openpose"])
def test_formats(tmp_path, format):
    path = tmp_path / "found"
    source = SAMPLES / "astronaut.jpg"
    done = lithepose("predict", source, source, "--json", path, "--format", format)
    assert done.returncode == 0, done.stderr
    if format == "coco":
        results = json.loads(path.read_text())
        assert {r["image_id"] for r in results} == {1, 2}
        assert all(len(r["keypoints"]) == 3 * len(r["keypoint_names"]) == 51 for r in results)
    elif format == "csv":
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert {"nose", "left_shoulder"} <= {r["joint"] for r in rows}
    else:
        names = sorted(p.name for p in path.iterdir())
        assert names == ["astronaut-2_keypoints.json", "astronaut_keypoints.json"]
        found = json.loads((path / names[0]).read_text())
        assert len(found["people"][0]["pose_keypoints_2d"]) == 54
        assert found["joints"][1] == "neck"


def test_a_csv_file_gets_csv(tmp_path):
    done = lithepose("predict", SAMPLES / "astronaut.jpg", "--json", tmp_path / "found.csv")
    assert done.returncode == 0, done.stderr
    assert {r["joint"] for r in csv.DictReader((tmp_path / "found.csv").read_text().splitlines())} >= {"nose"}


def test_what_else_is_read_is_not_written_over(tmp_path):
    boxes = json.dumps({"astronaut.jpg": [[100, 20, 300, 400]]})
    (tmp_path / "b.json").write_text(boxes)
    call = ["predict", SAMPLES / "astronaut.jpg", "--model", "split_stream", "--boxes", "b.json", "--json", "b.json"]
    done = lithepose(*call, cwd=tmp_path)
    assert done.returncode == 2
    assert "b.json: is one of the input files" in done.stderr
    assert (tmp_path / "b.json").read_text() == boxes


def test_video_to_video(tmp_path):
    write_video(tmp_path / "clip.mp4", 9)
    done = lithepose("predict", "clip.mp4", "--out", "drawn", "--size", 64, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "drawn" / "poses.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(9))
    assert len(list(frames(expand([str(tmp_path / "drawn" / "clip.mp4")])))) == 9
    with av.open(str(tmp_path / "drawn" / "clip.mp4")) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")


def test_a_cut_off_video_is_drawn_to_its_end(tmp_path, monkeypatch):
    """What fails while frames wait to be drawn does not keep them from it."""
    write_video(tmp_path / "clip.mp4", 12)
    monkeypatch.setattr("lithepose.media.video.is_damaged", lambda path, stream: True)
    options = [str(tmp_path / "clip.mp4"), "--out", str(tmp_path / "out"), "--size", "64"]
    assert main(["predict", *options]) == 1
    assert (tmp_path / "out" / "poses.jsonl").read_text().count("\n") == 12
    assert len([f for f in frames(expand([str(tmp_path / "out" / "clip.mp4")])) if isinstance(f, Frame)]) == 12


@pytest.fixture
def bad_folder(tmp_path) -> tuple[Path, set[str]]:
    """Every kind of image that people have; returns the folder and the names that cannot be read."""
    folder = tmp_path / "images"
    folder.mkdir()
    sample = Image.open(SAMPLES / "astronaut.jpg")
    small = sample.resize((96, 96))
    exif = Image.Exif()
    exif[0x0112] = 6
    sample.crop((0, 0, 512, 400)).save(folder / "turned.jpg", exif=exif)
    small.convert("L").save(folder / "grey.png")
    small.convert("RGBA").save(folder / "alpha.png")
    small.convert("CMYK").save(folder / "cmyk.jpg")
    small.convert("P").save(folder / "palette.gif")
    Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    Image.new("RGB", (1, 1), (9, 9, 9)).save(folder / "tiny.png")
    Image.new("RGB", (3000, 1)).save(folder / "line.png")
    sample.resize((6000, 5000)).save(folder / "large.jpg")
    whole = (SAMPLES / "astronaut.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 3])
    png = (folder / "grey.png").read_bytes()
    (folder / "cut.png").write_bytes(png[: len(png) // 3])
    (folder / "empty.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("I am not an image")
    header = struct.pack(">I4sIIBBBBB", 13, b"IHDR", 90000, 90000, 8, 2, 0, 0, 0)
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + b"\0" * 64)
    (folder / "broken.mp4").write_bytes(b"\0" * 100)
    return folder, {"cut.jpg", "cut.png", "empty.jpg", "text.jpg", "huge.png", "broken.mp4"}


def test_bad_images_are_named_and_the_others_done(bad_folder, tmp_path):
    folder, bad = bad_folder
    done = lithepose("predict", folder, "--out", tmp_path / "drawn")
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    for name in bad:
        assert name in done.stderr
    good = {p.name for p in folder.iterdir()} - bad
    lines = (tmp_path / "drawn" / "poses.jsonl").read_text().splitlines()
    assert {Path(json.loads(line)["source"]).name for line in lines} == good
    turned = next(json.loads(line) for line in lines if "turned" in line)
    assert (turned["width"], turned["height"]) == (400, 512)


def test_one_missing_file_does_not_stop_the_others(tmp_path):
    done = lithepose("predict", "gone.jpg", SAMPLES / "astronaut.jpg", "--out", "drawn", cwd=tmp_path)
    assert done.returncode == 1
    assert "gone.jpg" in done.stderr
    assert (tmp_path / "drawn" / "astronaut.jpg").exists()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["predict"], "no input"),
        (["predict", "gone.jpg"], "gone.jpg"),
        (["predict", "gone*.jpg"], "gone*.jpg"),
        (["predict", SAMPLES, "--model", "nonsense"], "nonsense"),
        (["predict", SAMPLES, "--model", "gone.onnx"], "gone.onnx"),
        (["predict", SAMPLES, "--size", "7"], "size 7"),
        (["predict", SAMPLES, "--threads", "-1"], "threads -1"),
        (["predict", SAMPLES, "--threshold", "2"], "threshold 2"),
        (["predict", SAMPLES / "camera.jpg", "--out", SAMPLES / "camera.jpg"], "camera.jpg: folder cannot be created"),
        (["predict", SAMPLES / "camera.jpg", "--json", "."], "is a folder"),
        (["export", SAMPLES / "camera.jpg", "--out", "gone/x.onnx"], "gone"),
        (["demo", "--out", "gone/x.jpg"], "gone"),
        (["predict", SAMPLES, "--format", "xml"], "xml"),
        (["predict", SAMPLES, "--json", "-", "--format", "openpose"], "folder"),
        (["evaluate", "lithe_paf", "--data", "gone.tar"], "gone.tar"),
        (["evaluate", "lithe_paf", "--data", SAMPLES, "--json", "gone/x.json"], "gone: no such folder"),
        (["predict", SAMPLES, "--model", "context_cpm", "--boxes", SAMPLES / "LICENSE.md"], "must end with .json"),
        (["train", "gone.toml"], "gone.toml"),
        (["export", "gone.safetensors"], "gone.safetensors"),
        (["export", SAMPLES / "camera.jpg", "--options", "{3}"], "{3}"),
        (["export", SAMPLES / "camera.jpg"], "camera.jpg"),
        (["export", SAMPLES / "camera.jpg", "--network", "lithium"], "lithium"),
        (["demo", "--out", "image.docx"], "image.docx"),
        (["dance"], "dance"),
        ([], "no command"),
    ],
    ids=lambda a: "-".join(map(str, a))[-40:] if isinstance(a, list) else None,
)
def test_unusable_calls_exit_with_2_and_say_why(tmp_path, arguments, says):
    done = lithepose(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert says in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_what_is_there_already_is_not_lost(tmp_path):
    sample = tmp_path / "own.jpg"
    sample.write_bytes((SAMPLES / "camera.jpg").read_bytes())
    (tmp_path / "own.tif").write_bytes(sample.read_bytes())
    (tmp_path / "prev.jsonl").write_text("earlier\n")
    before = sample.read_bytes()
    done = lithepose("predict", "own.jpg", "--json", "own.jpg", cwd=tmp_path)
    assert done.returncode == 2
    assert "own.jpg" in done.stderr
    assert lithepose("predict", "own.jpg", "--out", "own.jpg", "--json", "prev.jsonl", cwd=tmp_path).returncode == 2
    (tmp_path / "text.jpg").write_text("no image")
    assert lithepose("predict", "own.jpg", "--json", "prev.jsonl", cwd=tmp_path).returncode == 2
    assert lithepose("predict", "text.jpg", "--json", "prev.jsonl", "--overwrite", cwd=tmp_path).returncode == 1
    assert (tmp_path / "prev.jsonl").read_text() == "earlier\n"
    assert lithepose("predict", "own.tif", "--json", "text.jpg", cwd=tmp_path).returncode == 2
    assert lithepose("predict", "own.tif", "--out", ".", cwd=tmp_path).returncode == 0
    assert sample.read_bytes() == before
    assert (tmp_path / "own-2.jpg").exists()


def test_names_of_any_kind(tmp_path):
    names = ["ein Bild ä 図.jpg", "1²3.jpg", "7"]
    for name in names:
        (tmp_path / name).write_bytes((SAMPLES / "camera.jpg").read_bytes())
    done = lithepose("predict", ".", "7", "--json", "found.csv", "--format", "csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = list(csv.DictReader((tmp_path / "found.csv").read_text(encoding="utf-8").splitlines()))
    assert {r["source"] for r in rows} == set(names)


def test_evaluate_prints_what_the_results_file_gives(stick_images, tmp_path):
    data = stick_images.parent / "sticks"
    done = lithepose("evaluate", "lithe_paf", "--data", data, "--split", "train", "--json", tmp_path / "r.json")
    assert done.returncode == 0, done.stderr
    assert "AP50" in done.stdout
    assert all(len(r["keypoints"]) == 51 for r in json.loads((tmp_path / "r.json").read_text()))


def test_threshold_leaves_out_doubtful_joints():
    found = {}
    for threshold in ("0.05", "0.5"):
        done = lithepose("predict", SAMPLES / "astronaut.jpg", "--json", "-", "--threshold", threshold)
        people = json.loads(done.stdout)["people"]
        scores = [joint[2] for person in people for joint in person["joints"].values() if joint]
        found[threshold] = len(scores)
        assert min(scores) >= float(threshold)
    assert found["0.05"] > found["0.5"]


def test_complexity_and_receptive_field(tmp_path):
    done = lithepose("analyze", "complexity", "context_cpm", "--options", '{"stages": 2}')
    assert done.returncode == 0, done.stderr
    assert "11,004,753" in done.stdout
    assert "7.302" in done.stdout
    assert "21.3 GMACs" in done.stdout  # of the paper
    options = '{"width": 16, "context": 16, "blocks": [1]}'
    arguments = ["--joint", "left_wrist", "--size", "64", "--step", "16", "--options", options, "--out", "field.png"]
    done = lithepose("analyze", "receptive-field", "lithe_paf", SAMPLES / "astronaut.jpg", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "left_wrist" in done.stdout
    assert cv2.imread(str(tmp_path / "field.png")).shape == (64, 64, 3)
    for arguments, says in (
        (["analyze", "complexity", "lithe_paf", "--size", "12"], "--size 12"),
        (["analyze", "complexity", "lithium"], "lithium"),
        (["analyze", "receptive-field", "lithe_paf", SAMPLES / "astronaut.jpg", "--joint", "tail"], "tail"),
        (
            ["analyze", "receptive-field", "joint_regression", SAMPLES / "astronaut.jpg"],
            "joint_regression has no heatmaps",
        ),
    ):
        done = lithepose(*arguments)
        assert done.returncode == 2
        assert says in done.stderr


def test_version():
    done = lithepose("--version")
    assert (done.returncode, done.stdout.strip()) == (0, f"lithepose {package.__version__}")


def test_a_missing_extra_is_told_in_one_line():
    code = (
        "import sys\n"
        "class Without:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name in ('torch', 'faster_coco_eval'): raise ModuleNotFoundError(name, name=name)\n"
        "sys.meta_path.insert(0, Without())\n"
        "from lithepose.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    recipe = str(Path(__file__).parents[2] / "recipes" / "lithe-paf.toml")
    for arguments in (["train", recipe], ["export", "x.safetensors"], ["evaluate", "lithe_paf", "--data", "x"]):
        command = [sys.executable, "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        extra = "evaluate" if arguments[0] == "evaluate" else "train"
        assert f"pip install 'lithepose[{extra}]'" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_model_file_that_is_none_is_named(tmp_path):
    path = tmp_path / "bad.onnx"
    path.write_bytes(b"not a network")
    done = lithepose("predict", SAMPLES, "--model", path)
    assert done.returncode == 2
    assert "bad.onnx" in done.stderr


def test_models_lists_every_embedded_model():
    done = lithepose("models")
    assert done.returncode == 0, done.stderr
    for name in ("lithe_paf", "binary_paf", "multilevel", "context_cpm", "split_stream", "keypoint_rcnn"):
        assert name in done.stdout
    embedded = done.stdout[: done.stdout.index("to train")]
    of_many = [embedded.index(f" {name} ") for name in ("lithe", "lithe_paf", "binary_paf")]
    of_one = [embedded.index(f" {name} ") for name in ("split_stream", "context_cpm")]
    assert of_many == sorted(of_many), "the best first"
    assert of_one == sorted(of_one)
    assert "choose it for" in embedded


def test_benchmark_measures_stage_by_stage(tmp_path):
    table = tmp_path / "times.csv"
    done = lithepose("benchmark", "--rounds", 2, "--size", 128, "--threads", 1, "--out", table)
    assert done.returncode == 0, done.stderr
    (row,) = csv.DictReader(table.read_text().splitlines())
    assert (row["model"], row["input"]) == ("lithe", "128x128")
    assert all(float(row[part]) > 0 for part in ("letterbox", "network", "decode", "draw", "whole"))
    assert "images/s" in done.stdout
    pairs = "--rounds", 2, "--size", 128, "--runtime", "onnx", "--precision", "fp32", "bf16", "--out", table
    done = lithepose("benchmark", *pairs)
    assert done.returncode == 0, done.stderr
    assert "skipped: precision bf16" in done.stderr
    assert len(table.read_text().splitlines()) == 2
    for arguments, says in (
        (("--runtime", "onnx", "--precision", "bf16"), "precision bf16"),
        (("--rounds", 0), "rounds must be 1 or more"),
        (("lithe_paf", "--binary"), "omit models"),
        (("--out", tmp_path / "none" / "x.csv"), "no such folder"),
    ):
        done = lithepose("benchmark", *arguments)
        assert (done.returncode, says in done.stderr) == (2, True), done.stderr
