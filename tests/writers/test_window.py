"""The window, on a display of its own where the machine can make one, and on none."""

import os
import shutil
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from lithepose.cli import main
from lithepose.errors import ConfigError
from lithepose.writers.window import Window

pytest.importorskip("tkinter")


def test_without_a_display_the_call_is_refused_before_anything_is_written(tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("DISPLAY", raising=False)
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((64, 64, 3), np.uint8))
    assert main(["predict", str(tmp_path / "x.png"), "--out", str(tmp_path / "out"), "--show"]) == 2
    assert "--show" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SHOWS_THE_NEWEST = """
import numpy as np
from lithepose.writers.window import Window

window = Window()
for value in (10, 200):
    window.put(np.full((1200, 2000, 3), value, np.uint8))
assert window.refresh()
shown = window._shown
print(shown.width(), shown.height(), shown.get(5, 5))
window.close()
print(window.refresh())
"""

CLOSES_AFTER_THE_FIRST = """
import sys
from lithepose.cli import main
from lithepose.writers.window import Window

refresh = Window.refresh

def closes(self):
    shown = refresh(self)
    if self._shown is not None:
        self.close()
    return shown

Window.refresh = closes
sys.exit(main(["predict", *sys.argv[1:], "--show"]))
"""


@pytest.fixture
def run():
    """Runs a script on a virtual display of 800x600 pixels; in a process of its own, which ends before the display."""
    if not shutil.which("Xvfb"):
        pytest.skip("no Xvfb")
    number = f":{90 + os.getpid() % 800}"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    server = subprocess.Popen(["Xvfb", number, "-screen", "0", "800x600x24"], **quiet)

    def call(script, *arguments):
        for _ in range(100):
            if os.path.exists(f"/tmp/.X11-unix/X{number[1:]}"):
                break
            time.sleep(0.05)
        command = [sys.executable, "-c", script, *map(str, arguments)]
        return subprocess.run(command, env=os.environ | {"DISPLAY": number}, capture_output=True, text=True, timeout=60)

    try:
        yield call
    finally:
        server.terminate()
        server.wait()


def test_the_newest_image_is_shown_reduced_to_the_screen(run):
    done = run(SHOWS_THE_NEWEST)
    assert done.stdout.splitlines() == ["720 432 (200, 200, 200)", "False"], done.stderr  # 0.9 of the screen's width


def test_closing_the_window_ends_the_call(run, tmp_path):
    for name in "abcdefgh":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((64, 64, 3), np.uint8))
    done = run(CLOSES_AFTER_THE_FIRST, tmp_path, "--out", tmp_path / "out")
    assert "0 failed" in done.stderr  # the summary, and no window that waits for ever
    assert done.returncode in (0, 130)


def test_a_window_without_tkinter_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "tkinter", None)
    with pytest.raises(ConfigError, match="tkinter"):
        Window()
