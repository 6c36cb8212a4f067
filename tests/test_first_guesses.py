"""What users of Ultralytics, supervision, MediaPipe and rtmlib write first: it works, or says what to write instead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import SAMPLES, write_video

import lithepose
from lithepose.cli import main

IMAGE = str(SAMPLES / "astronaut.jpg")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the guesses are made with."""
    model = lithepose.load(threads=1)
    poses = model(IMAGE)
    return {
        "lithepose": lithepose,
        "model": model,
        "poses": poses,
        "results": poses,
        "np": np,
        "cv2": cv2,
        "IMAGE": IMAGE,
    }


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", 3)
    (tmp_path / "photo.jpg").write_bytes(Path(IMAGE).read_bytes())
    return tmp_path


WORK = [
    ("model(IMAGE)", lambda v: len(v) == 1),
    ("model.predict(IMAGE, conf=0.5)", lambda v: v.score[v.found].min() >= 0.5),
    ("model.predict(cv2.imread(IMAGE), bgr=True)", lambda v: len(v) == 1),
    ("model([IMAGE, IMAGE])", lambda v: len(v) == 2),
    ("results[0].plot()", lambda v: v.shape == (512, 512, 3)),
    ("results[0].boxes", lambda v: v.shape == (1, 4)),
    ("poses.plot()", lambda v: v.dtype == np.uint8),
    ("poses.save('drawn.jpg')", lambda v: Path("drawn.jpg").stat().st_size > 1000),
    ("poses.xyxy[0]", lambda v: v.shape == (4,)),
    ("poses.xywh", lambda v: v.shape == (1, 4)),
    ("poses.xyn", lambda v: np.nanmax(v) <= 1),
    ("poses.to_pandas()", lambda v: {"joint", "x", "y", "score"} <= set(v)),
    ("poses.to_json()", lambda v: "left_shoulder" in v),
    ("poses.to_numpy()", lambda v: v.shape == (1, 17, 3)),
    ("poses.to_supervision().xy", lambda v: v.shape == (1, 17, 2)),
    ("len(model.joints)", lambda v: v == 17),
    ("[person['left_shoulder'].x for person in poses]", lambda v: 0 < v[0] < 512),
    ("list(model.stream('clip.mp4'))", lambda v: len(v) == 3),
    ("lithepose.draw(cv2.imread(IMAGE), poses)", lambda v: v.shape == (512, 512, 3)),
]
SAY = [
    ("poses.keypoints", AttributeError, "poses.xy"),
    ("poses.keypoints.xy.cpu().numpy()", AttributeError, "poses.score"),
    ("results[0].keypoint_confidence", AttributeError, "poses.score"),
    ("poses.pose_landmarks", AttributeError, "poses.xyn"),
    ("poses.conf", AttributeError, "poses.score"),
    ("poses.names", AttributeError, "poses.joints"),
    ("poses.to_csv('poses.csv')", AttributeError, r"to_pandas\(\).to_csv"),
    ("poses.to_df()", AttributeError, r"to_pandas\(\)"),
    ("poses.orig_img", AttributeError, "poses.image"),
    ("poses.cpu()", AttributeError, r"to_numpy\(\)"),
    ("poses.plots()", AttributeError, "did you mean 'plot'"),
    ("poses['left_wrist']", TypeError, r"person\['left_wrist'\]"),
    ("poses.plot(labels=False)", TypeError, "DrawStyle"),
    ("[person.left_wrist for person in poses]", AttributeError, r"person\['left_wrist'\]"),
    ("[person.keypoints for person in poses]", AttributeError, r"person.xy"),
    ("[person['leftWrist'] for person in poses]", KeyError, "left_wrist"),
    ("model.names", AttributeError, "model.joints"),
    ("model('clip.mp4')", ValueError, r"model.stream\('clip.mp4'\)"),
    ("model(0)", ValueError, r"model.stream\('0'\)"),
    ("model('.')", ValueError, r"model.stream\('\.'\)"),
    ("model('*.jpg')", ValueError, r"model.stream\('\*\.jpg'\)"),
    ("model(IMAGE, conf=0.5)", TypeError, r"with_config\(peak=0.5\)"),
    ("model(IMAGE, size=640)", TypeError, r"lithepose.load\(size=640\)"),
    ("model.predict(source=IMAGE, save=True)", TypeError, "the image without a name|drawn.jpg"),
    ("model.predict(IMAGE, device='cuda')", TypeError, "device='cuda'"),
    ("model.track('clip.mp4', persist=True)", AttributeError, r"track=True"),
    ("model.to('cuda')", AttributeError, "device='cuda'"),
    ("model.process(cv2.imread(IMAGE))", AttributeError, r"model\(image\)"),
    ("list(model.stream('clip.mp4', conf=0.5))", TypeError, r"with_config"),
    ("[frame.boxes for frame in model.stream('clip.mp4')]", AttributeError, "frame.poses"),
    ("[frame.plot() for frame in model.stream('clip.mp4')]", AttributeError, r"frame.poses.plot\(frame.image\)"),
    ("lithepose.YOLO('yolov8n-pose.pt')", AttributeError, r"lithepose.load\(\)"),
    ("lithepose.Body(mode='balanced')", AttributeError, r"lithepose.load\(\)"),
    ("lithepose.draw_skeleton(IMAGE, poses)", AttributeError, r"lithepose.draw\(image, poses\)"),
    ("lithepose.solutions.pose", AttributeError, r"lithepose.load\(\)"),
    ("lithepose.load('yolov8n-pose.pt')", ValueError, "choose one of lithe"),
    ("lithepose.load(gpu=True)", TypeError, "device='cuda'"),
    ("lithepose.predict(IMAGE)", AttributeError, r"lithepose.load\(\)"),
]
CLI = [
    (["predict", "source=photo.jpg"], "pass inputs without a flag"),
    (["predict", "photo.jpg", "imgsz=640"], "use --size"),
    (["predict", "--input", "photo.jpg"], "pass inputs without a flag"),
    (["predict", "photo.jpg", "--output", "x"], "use --out"),
    (["predict", "photo.jpg", "--gpu", "0"], "--device cuda"),
    (["predict", "photo.jpg", "--conf", "0.5"], "use --threshold"),
    (["predict", "photo.jpg", "--treshold", "0.5"], "did you mean --threshold?"),
    (["predict", "photo.jpg", "-o", "x"], "use --out"),
    (["track", "clip.mp4"], "lithepose predict clip.mp4 --track"),
    (["detect", "photo.jpg"], "lithepose predict image.jpg"),
    (["photo.jpg"], "lithepose predict photo.jpg"),
    (["predcit", "photo.jpg"], "did you mean predict?"),
    (["--input", "photo.jpg"], "unknown option --input"),
    (["evaluate", "lithe", "--dta", "x"], "did you mean --data?"),
]


def test_there_are_forty_and_more():
    assert len(WORK) + len(SAY) >= 40
    assert len({guess for guess, *_ in WORK + SAY}) == len(WORK) + len(SAY)


@pytest.mark.parametrize(("guess", "holds"), WORK, ids=[guess for guess, _ in WORK])
def test_it_works(folder, names, guess, holds):
    assert holds(eval(guess, dict(names)))


@pytest.mark.parametrize(("guess", "kind", "says"), SAY, ids=[guess for guess, *_ in SAY])
def test_it_says_what_to_write(folder, names, guess, kind, says):
    with pytest.raises(kind, match=says):
        eval(guess, dict(names))


@pytest.mark.parametrize(("arguments", "says"), CLI, ids=[" ".join(arguments) for arguments, _ in CLI])
def test_the_command_line_says_what_to_write(folder, capsys, arguments, says):
    before = sorted(folder.iterdir())
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert says in said
    assert len(said.splitlines()) == 1
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("arguments", [["-h"], ["--help"], ["predict", "-h"], ["-V"], ["predict", "--version"]])
def test_help_and_version(capsys, arguments):
    assert main(arguments) == 0
    assert "lithepose" in capsys.readouterr().out


def test_what_is_said_to_write_is_there(names):
    """Attributes that hints name are those of the objects."""
    from lithepose import guesses

    model, poses = names["model"], names["poses"]
    for said in [*guesses.POSES.values(), *guesses.MODEL.values(), *guesses.MODULE.values()]:
        for owner, known in (("poses.", poses), ("model.", model), ("lithepose.", lithepose)):
            for part in said.split(owner)[1:]:
                name = part.split("(")[0].split(",")[0].split(".")[0].split("[")[0].split(" ")[0].rstrip(";:")
                assert hasattr(known, name), said
