"""A training ends within seconds of a signal, wherever it is, and says how to go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from test_trainer import RECIPE

pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")

# Runs the command with one place of it made slow; the file `there` says that it is at that place.
SLOW = """
import signal, sys, time
from pathlib import Path

for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # as a terminal leaves them
    signal.signal(number, signal.SIG_DFL)

def stay(seconds):
    Path("there").touch()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(until - time.monotonic())

place = sys.argv.pop(1)
import lithepose.training.trainer as trainer
if place == "start":
    trainer.make_network = lambda *_, **__: stay(300)
elif place == "step":
    whole = trainer.Trainer.step
    def step(self, called, batch, number):
        values = whole(self, called, batch, number)
        if number == 2:
            stay(1.5)
        return values
    trainer.Trainer.step = step
elif place == "validation":
    trainer.Trainer._validate = lambda *_: stay(300)
elif place == "saving":
    whole_save = trainer.save_checkpoint
    import torch
    def save(*given):
        torch.save = lambda state, path: (Path(path).write_bytes(b"half"), stay(300))
        whole_save(*given)
    trainer.save_checkpoint = save
from lithepose.cli import main
sys.exit(main(sys.argv[1:]))
"""


def start(folder: Path, place: str) -> subprocess.Popen[str]:
    """The training, in a group of its own."""
    validation = '[[validation]]\ndata = "sticks"\nsplit = "val"\n' if place == "validation" else ""
    steps = RECIPE.format(steps=40).replace("save_every = 4", f"save_every = {2 if place == 'validation' else 4}")
    (folder / "mine.toml").write_text(steps + validation)
    command = [sys.executable, "-c", SLOW, place, "train", "mine.toml", "--data", ".", "--run", "runs/mine"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def gone(group: int) -> bool:
    """Whether all processes of a group end within ten seconds."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("place", "kind", "to_all", "says"),
    [
        ("start", "SIGTERM", False, "stopped by SIGTERM before any step was done; to continue, run:"),
        ("step", "SIGINT", True, "stopped by SIGINT at step 3 of 40; step 3 is saved in runs/mine; to continue, run:"),
        (
            "step",
            "SIGTERM",
            True,
            "stopped by SIGTERM at step 3 of 40; step 3 is saved in runs/mine; to continue, run:",
        ),
        (
            "validation",
            "SIGHUP",
            False,
            "stopped by SIGHUP at step 1 of 40; nothing is saved in runs/mine yet; to continue, run:",
        ),
        (
            "saving",
            "SIGTERM",
            False,
            "stopped by SIGTERM at step 3 of 40; nothing is saved in runs/mine yet; to continue, run:",
        ),
    ],
)
def test_stopped_anywhere_it_ends_and_says_how_to_go_on(stick_images, place, kind, to_all, says):
    folder = stick_images.parent
    process, deadline = start(folder, place), time.monotonic() + 120
    while not (folder / "there").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    number, sent = getattr(signal, kind), time.monotonic()
    (os.killpg if to_all else os.kill)(process.pid, number)
    _, error = process.communicate(timeout=60)
    assert time.monotonic() - sent < 30, "it waits at most five seconds of its own"
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert says in error
    assert "lithepose train mine.toml --data . --run runs/mine" in error
    assert gone(process.pid), "its loader's process is left"
    assert (folder / "runs" / "mine" / "checkpoint.pt").exists() == (place == "step")


def test_a_second_signal_ends_it_at_once(stick_images):
    process, there = start(stick_images.parent, "validation"), stick_images.parent / "there"
    deadline = time.monotonic() + 120
    while not there.exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    time.sleep(1.3)
    assert process.poll() is None, "it waits for the step"
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "stopped by SIGTERM" in error


def test_a_script_that_trains_ends_by_ctrl_c_too(stick_images):
    """Without the command, as in a notebook: the loader's process must not be waited for without end."""
    folder = stick_images.parent
    (folder / "mine.toml").write_text(RECIPE.format(steps=40))
    code = """
import os, signal, lithepose, lithepose.training.trainer as trainer
signal.signal(signal.SIGINT, signal.default_int_handler)
def step(self, called, batch, number):
    os.kill(os.getpid(), signal.SIGINT)
trainer.Trainer.step = step
lithepose.train(lithepose.Recipe.read("mine.toml"), ".", "run", quiet=True)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert "Exception ignored" not in done.stderr


def test_a_signal_to_a_forked_process_is_not_one_to_the_training():
    """A library may fork a process off this one and end it by SIGTERM; it shares the pipe by which signals arrive."""
    code = """
import os, signal, time
from lithepose.cli.calls.stopping import Stopping
with Stopping("again", 10, "runs/mine"):
    child = os.fork()
    if not child:
        time.sleep(60)
        os._exit(0)
    time.sleep(0.5)
    os.kill(child, signal.SIGTERM)
    status = os.waitpid(child, 0)[1]
    time.sleep(0.5)
print(os.WTERMSIG(status))
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == str(int(signal.SIGTERM))
