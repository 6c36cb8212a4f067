"""Every file of examples/ runs, on small inputs."""

from __future__ import annotations

import csv
import json
import runpy
import sys
from pathlib import Path

import cv2
import pytest
from conftest import SAMPLES

from lithepose.writers.video import VideoWriter

EXAMPLES = Path(__file__).parents[1] / "examples"
RECIPE = """
network = "lithe_paf"
size = 128
batch = 4
steps = 2
[options]
width = 16
context = 16
blocks = [1, 1]
[[data]]
data = "sticks"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
    runpy.run_path(str(EXAMPLES / name), run_name="__main__")


def video(path: Path, count: int) -> Path:
    with VideoWriter(path, 10) as writer:
        for i in range(count):
            writer.write(cv2.imread(str(SAMPLES / "camera.jpg"))[..., ::-1], i / 10)
    return path


def test_all_are_run_here_and_are_short():
    own = Path(__file__).read_text() + (Path(__file__).parent / "server" / "test_process.py").read_text()
    for path in [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.ipynb")]:
        assert f'"{path.name}"' in own
        assert path.suffix != ".py" or len(path.read_text().splitlines()) <= 40


def test_image(folder, monkeypatch, capsys):
    run(monkeypatch, "image.py", SAMPLES / "astronaut.jpg", "drawn.png")
    assert "left_shoulder" in capsys.readouterr().out
    assert cv2.imread("drawn.png").shape == (512, 512, 3)


def test_folder_to_csv(folder, monkeypatch):
    (folder / "in").mkdir()
    (folder / "in" / "a.jpg").write_bytes((SAMPLES / "astronaut.jpg").read_bytes())
    (folder / "in" / "broken.jpg").write_bytes(b"no image")
    video(folder / "in" / "b.mp4", 2)
    run(monkeypatch, "folder_to_csv.py", "in", "poses.csv")
    rows = list(csv.DictReader((folder / "poses.csv").read_text().splitlines()))
    assert {Path(row["source"]).name for row in rows} == {"a.jpg", "b.mp4"}


def test_webcam(folder, monkeypatch, capsys):
    run(monkeypatch, "webcam.py", video(folder / "clip.mp4", 2))
    assert "raises" not in capsys.readouterr().out, "this person does not"


def test_angles(folder, monkeypatch, capsys):
    run(monkeypatch, "angles.py", video(folder / "clip.mp4", 18))
    assert "left_knee: 0 bends" in capsys.readouterr().out


def test_own_keypoints(folder, stick_images, monkeypatch, capsys):
    pytest.importorskip("torch")
    (folder / "mine.toml").write_text(RECIPE)
    run(monkeypatch, "own_keypoints.py", "mine.toml", stick_images.parent, stick_images / "images" / "0.png")
    assert "joints: nose" in capsys.readouterr().out


def test_the_notebook(folder):
    """Its cells one after the other; the last line of a cell is shown, as a notebook shows it."""
    pytest.importorskip("pandas")
    names: dict[str, object] = {}
    for cell in json.loads((EXAMPLES / "first_steps.ipynb").read_text())["cells"]:
        if cell["cell_type"] == "code":
            assert not cell["outputs"], "saved without outputs"
            exec("".join(cell["source"]), names)
    assert names["poses"]._repr_png_()[:4] == b"\x89PNG"  # pyright: ignore[reportAttributeAccessIssue]
    assert len(names["table"]) > 5  # pyright: ignore[reportArgumentType]
    assert names["drawn"].shape == (512, 512, 3)  # pyright: ignore[reportAttributeAccessIssue]
