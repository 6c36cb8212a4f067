"""A call of `lithepose predict` that is stopped leaves whole files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import write_video

from lithepose.media.inputs import expand
from lithepose.media.sources import Frame, frames


def start(folder: Path, *options: str) -> subprocess.Popen:
    """The command on a video, drawing it; it hears SIGINT, which tests do not that run in a shell's background."""
    return subprocess.Popen(
        [sys.executable, "-m", "lithepose", "predict", "clip.mp4", "--out", "drawn", "--size", "128", *options],
        cwd=folder,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def whole(folder: Path) -> tuple[int, int]:
    """Lines of results, all of which are whole, and frames of the drawn video; 0 where there is no file yet."""
    results, video = folder / "poses.jsonl", folder / "clip.mp4"
    text = results.read_text() if results.exists() else ""
    assert not text or text.endswith("\n")
    drawn = list(frames(expand([str(video)]))) if video.exists() else []
    assert all(isinstance(frame, Frame) for frame in drawn), drawn
    return len([json.loads(line) for line in text.splitlines()]), len(drawn)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
@pytest.mark.parametrize("stop", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("after", [0, 1, 7, 40, 59, 60])  # of 60 lines
def test_stopped_at_any_moment_it_leaves_whole_files(tmp_path, stop, after):
    write_video(tmp_path / "clip.mp4", 60)
    process, results = start(tmp_path, "--threads", "1"), tmp_path / "drawn" / "poses.jsonl"
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        if results.exists() and results.read_text().count("\n") >= after:
            break
        time.sleep(0.002)
    number = getattr(signal, stop)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    done, drawn = whole(tmp_path / "drawn")
    assert drawn == done >= after
    # At the end Python may be in a callback of its own, where it prints the interrupt and goes on.
    assert "Traceback" not in error or (done == 60 and error.startswith("Exception ignored in"))
    # It may be over before the signal comes, or be leaving, which a signal ends at once.
    assert process.returncode in ((0, 130, -number) if done == 60 else (130,))
