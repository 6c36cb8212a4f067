"""How a call is read: help, options of every command, the config file, progress."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import SAMPLES, write_video

from lithepose.cli import ANALYZE, COMMANDS, main
from lithepose.cli.calls import progress
from lithepose.cli.calls.help import description, flags_of, parameters_of
from lithepose.media.inputs import Input
from lithepose.media.sources import Frame, ReadConfig, frame_total

ALL = COMMANDS | {f"analyze {name}": command for name, command in ANALYZE.items()}
CALLED = {name: command for name, command in ALL.items() if name != "analyze"}


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main([*arguments, "--help"]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", CALLED)
def test_the_help_of_a_command(monkeypatch, capsys, name):
    monkeypatch.setenv("COLUMNS", "80")
    text = shown(capsys, *name.split())
    assert max(map(len, text.splitlines()[2:])) <= 80
    assert "None" not in text
    assert not re.search(r"Default:[^-]*\(default", " ".join(text.split()).replace("--", "\n-"))
    for flag in flags_of(CALLED[name]):
        assert flag in text
    examples = re.findall(rf"^  (?:torchrun .*-m -- )?lithepose {name}\b", description(CALLED[name]), re.MULTILINE)
    assert len(examples) >= (3 if parameters_of(CALLED[name]) else 1), "three examples"
    assert text.count("-q, --quiet") == text.count("-V, --version") == 1


@pytest.mark.parametrize("name", CALLED)
def test_the_flags_of_examples_are_those_of_the_command(name):
    for line in description(CALLED[name]).partition("examples:")[2].splitlines():
        if "lithepose" in line:
            flags = re.findall(r"--[a-z-]+", line.partition("lithepose")[2])
            assert set(flags) <= set(flags_of(CALLED[name])), line


def test_quiet_and_verbose(folder, capsys):
    sample = str(SAMPLES / "astronaut.jpg")
    assert main(["predict", sample, "--json", "a.csv", "-q"]) == 0
    assert capsys.readouterr().err == ""
    assert main(["-q", "predict", sample, "gone.jpg", "--json", "b.csv"]) == 1
    assert "gone.jpg" in capsys.readouterr().err
    assert main(["predict", sample, "--json", "c.csv", "-v"]) == 0
    said = capsys.readouterr().err
    assert f"{sample}: 1 person" in said
    assert "1 frame, 1 person, 0 failed" in said


def test_files_that_are_left_out_are_counted(folder, capsys):
    (folder / "a.jpg").write_bytes((SAMPLES / "astronaut.jpg").read_bytes())
    (folder / "b.txt").write_text("no image")
    assert main(["predict", ".", "--json", "../a.csv", "--overwrite"]) == 0
    assert ".: 1 file is neither image nor video: 1 .txt" in capsys.readouterr().err
    (folder / "c.txt").write_text("no image")
    assert main(["predict", ".", "--json", "../a.csv", "--overwrite"]) == 0
    assert ".: 2 files are neither images nor videos: 2 .txt" in capsys.readouterr().err


def test_a_config_file_gives_options_and_the_call_goes_before_it(folder, capsys):
    Path("my.toml").write_text(
        '[predict]\njson = "mine.csv"\nmin-person = 0.2\ntrack = true\nflip = false\nregion = [0, 0, 512, 512]\n'
        "[evaluate]\ncomplete = false\n[analyze.complexity]\nsize = '64x64'\n"
    )
    sample = str(SAMPLES / "astronaut.jpg")
    assert main(["predict", sample, "--config", "my.toml"]) == 0
    assert Path("mine.csv").exists()
    assert main(["--config=my.toml", "predict", sample, "--json", "other.csv"]) == 0
    assert Path("other.csv").read_text() == Path("mine.csv").read_text()
    assert main(["analyze", "complexity", "context_cpm", "--config", "my.toml"]) == 0
    assert "64x64" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[predict]\ntreshold = 0.3", "unknown option treshold in [predict]; did you mean threshold?"),
        ("[predikt]\nsize = 3", "[predikt] is not a valid command table; did you mean predict?"),
        ("size = 3", "[size] is not a valid command table"),
        ("[evaluate]\nsise = 3", "unknown option sise in [evaluate]; did you mean size?"),
        ("[predict]\ntrack = 1", "track = 1: must be true or false"),
        ("[predict]\nsize = true", "size = True: must be a value that --size accepts"),
        ("[predict", "not a valid TOML file"),
    ],
)
def test_a_config_file_with_mistakes(folder, capsys, text, says):
    Path("my.toml").write_text(text)
    assert main(["predict", str(SAMPLES / "astronaut.jpg"), "--config", "my.toml"]) == 2
    assert says in capsys.readouterr().err
    assert main(["predict", "x.jpg", "--config", "gone.toml"]) == 2
    assert "gone.toml: no such file" in capsys.readouterr().err


def test_an_option_of_four_values_takes_no_more(folder, capsys):
    sample = str(SAMPLES / "astronaut.jpg")
    assert main(["predict", "--json", "a.csv", "--region", "0", "0", "600", "600", sample]) == 0
    assert "1 person" in capsys.readouterr().err
    assert main(["predict", "--json", "b.csv", "--region", "0", "0", "10", "10", sample]) == 0
    assert "0 people" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["predict", "--json", "c.csv", "--region", "0", "0", "wide", "10", sample])


def test_suggestions_are_of_the_command_alone(capsys):
    assert main(["predict", "x.jpg", "--curv", "x"]) == 2
    assert "--curve" not in capsys.readouterr().err
    assert main(["evaluate", "lithe", "--curv", "x"]) == 2
    assert "did you mean --curve?" in capsys.readouterr().err


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion(shell):
    command = [sys.executable, "-m", "lithepose", "--tyro-print-completion", shell]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "--detect-every" in done.stdout
    assert "--lowpass" in done.stdout


def test_the_frames_of_a_video_are_counted_ahead(folder):
    write_video(folder / "clip.mp4", 30)
    video = Input("clip.mp4", "video")
    assert frame_total(video) == 30
    assert frame_total(video, ReadConfig(start=1.0, end=2.5, every=3)) == 5
    assert frame_total(Input("a.jpg", "image")) == 1
    assert frame_total(Input("0", "live")) == 0
    assert frame_total(Input("gone.mp4", "video")) == 1


def test_progress_says_how_much_is_left(folder, monkeypatch, capsys):
    """Two videos of 30 frames and an image, the first video over in 15 seconds: 46 frames in all, 16 left after 30."""
    for name in ("a.mp4", "b.mp4"):
        write_video(folder / name, 30)
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    inputs = [Input("a.mp4", "video"), Input("i.jpg", "image"), Input("b.mp4", "video")]
    with progress.Reporter(inputs) as reporter:
        for i in range(30):
            clock[0] += 0.5
            reporter.advance(Frame(None, "a.mp4", i, i / 10, 10.0))  # pyright: ignore[reportArgumentType]
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3, "one every five seconds"
    assert lines[-1] == "30 of 61 frames, 2.0 a second, input 1 of 3 (a.mp4), 16 s left"


def test_progress_of_a_camera_has_no_end(monkeypatch, capsys):
    clock = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    with progress.Reporter([Input("0", "live")]) as reporter:
        clock[0] += 6
        reporter.advance(Frame(None, "0", 7, 0.7, 10.0))  # pyright: ignore[reportArgumentType]
    assert capsys.readouterr().err.strip() == "1 frames, 0.2 a second, input 1 of 1 (0)"


def test_help_is_there_at_once():
    """It loads neither OpenCV nor ONNX Runtime."""
    code = (
        "import sys; from lithepose.cli import main; main(['predict', '-h']);"
        "print({'cv2', 'onnxruntime', 'torch', 'numpy'} & set(sys.modules), file=sys.stderr)"
    )
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert done.stderr.strip() == "set()", time.monotonic() - began
