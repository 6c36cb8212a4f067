from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from torch import nn

RECIPE = """
network = "openpose"
size = 64
batch = 4
steps = 10
warmup = 2
rate = 5e-5
precision = "fp32"
save_every = 10
[options]
stages = 2
[augment]
mosaic = 0.0
[[data]]
data = "sticks"
"""


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def torchrun(processes: int, *arguments: object) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}"]
    command += [f"--master-port={free_port()}", "--master-addr=127.0.0.1", *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr


def test_two_processes_train_as_one(stick_images):
    """Same samples, averaged gradients: the loss of ten steps is that of one process.

    With a network without BatchNorm, which in a fresh network of few samples enlarges rounding from step to step.
    """
    folder = stick_images.parent
    (folder / "mine.toml").write_text(RECIPE)
    for processes in (1, 2):
        arguments = "train", folder / "mine.toml", "--data", folder, "--run", folder / f"run{processes}"
        torchrun(processes, "-m", "--", "lithepose", *arguments)
    one, two = (json.loads((folder / f"run{n}" / "log.jsonl").read_text()) for n in (1, 2))
    assert one["step"] == two["step"] == 10
    assert two["total"] == pytest.approx(one["total"], abs=1e-5)
    assert (folder / "run2" / "weights.safetensors").exists()


SYNCED = """
import gc
import sys
from pathlib import Path
import torch
from torch import nn
from lithepose.training.distributed import World

def gloo_threads():
    names = [(task / "comm").read_text() for task in Path("/proc/self/task").glob("*")]
    return [name for name in names if "gloo_runloop" in name]

def main():
    with World() as world:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Conv2d(3, 5, 1), nn.BatchNorm2d(5), nn.ReLU())
        x = torch.randn(4, 3, 6, 6)
        net = world.wrap(world.synced(net))
        out = net(x[world.rank :: world.size])
        (out.square().mean()).backward()
        inner = getattr(net, "module", net)
        state = {name: p.grad for name, p in inner.named_parameters()} | dict(inner.named_buffers())
        if world.first:
            torch.save(state, sys.argv[1])
        assert bool(gloo_threads()) == (world.size > 1)

main()
gc.collect()
assert not gloo_threads()  # they would outlive the interpreter, and abort it
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="looks for threads as Linux names them")
def test_batch_norm_over_two_processes(tmp_path: Path):
    (tmp_path / "synced.py").write_text(SYNCED)
    for processes in (1, 2):
        torchrun(processes, tmp_path / "synced.py", tmp_path / f"{processes}.pt")
    one, two = (torch.load(tmp_path / f"{n}.pt") for n in (1, 2))
    assert one.keys() == two.keys()
    for name, tensor in one.items():
        assert torch.allclose(tensor.float(), two[name].float(), atol=1e-6), name


def test_alone_nothing_is_wrapped():
    from lithepose.training.distributed import World

    with World() as world:
        net = nn.Sequential(nn.BatchNorm2d(3))
        assert world.first
        assert world.wrap(world.synced(net)) is net
        assert type(net[0]) is nn.BatchNorm2d
        assert world.mean({"a": 1.5}) == {"a": 1.5}
