"""Training on several machines: two agents of torchrun, restarts, and the network between two namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from test_distributed import RECIPE, free_port

pytestmark = pytest.mark.skipif(not os.environ.get("LITHEPOSE_MACHINES"), reason="takes minutes; LITHEPOSE_MACHINES=1")

# The first time, a process ends itself as soon as there is a checkpoint.
FALLS = """
import os, signal, sys, threading, time
from pathlib import Path
run = Path(sys.argv[sys.argv.index("--run") + 1])

def fall():
    while not (run / "checkpoint.pt").exists():
        time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ["RANK"] == "1" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
    threading.Thread(target=fall, daemon=True).start()
from lithepose.cli import main
sys.exit(main())
"""


def agent(folder: Path, nodes: str, endpoint: str, *more: str) -> list[str]:
    """The call of one machine."""
    rendezvous = ["--rdzv-backend=c10d", f"--rdzv-endpoint={endpoint}", "--rdzv-id=one", "--max-restarts=2"]
    command = [sys.executable, "-m", "torch.distributed.run", f"--nnodes={nodes}", "--nproc-per-node=1", *rendezvous]
    arguments = ["train", folder / "mine.toml", "--data", folder, "--run", folder / "run"]
    return [*command, *more, "--", str(folder / "falls.py"), *map(str, arguments)]


def assert_same(run: Path, other: Path) -> None:
    """Both are over, and apart by less than a tenth of what one step of ``lr`` 5e-5 moves a weight by."""
    one, two = (torch.load(folder / "checkpoint.pt", weights_only=True) for folder in (run, other))
    assert one["step"] == two["step"] == 10
    apart = torch.cat([(one["net"][name] - tensor).abs().flatten() for name, tensor in two["net"].items()])
    assert float(apart.mean()) < 5e-6
    assert (run / "weights.safetensors").exists()


@pytest.fixture
def folder(stick_images) -> Path:
    folder = stick_images.parent
    (folder / "mine.toml").write_text(RECIPE.replace("save_every = 10", "save_every = 4"))
    (folder / "falls.py").write_text(FALLS)
    return folder


def alone(folder: Path) -> Path:
    """The run of the same training in one process."""
    arguments = ["train", folder / "mine.toml", "--data", folder, "--run", folder / "alone"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-m", "lithepose", *map(str, arguments)], env=environment, check=True, timeout=300)
    return folder / "alone"


def together(commands: list[list[str]]) -> None:
    """Run the agents at the same time."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    with ExitStack() as stack:
        agents = [
            stack.enter_context(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True))
            for command in commands
        ]
        remarks = [agent.communicate(timeout=300)[1] for agent in agents]
        assert [agent.returncode for agent in agents] == [0] * len(agents), "\n".join(remarks)


def test_two_agents_of_which_a_process_falls_end_as_one_process(folder):
    """Two machines that share a folder: one's process is killed, both start again from the checkpoint."""
    endpoint = f"127.0.0.1:{free_port()}"
    together([agent(folder, "2", endpoint, "--local-addr=127.0.0.1") for _ in range(2)])
    assert_same(folder / "run", alone(folder))


def in_namespaces() -> bool:
    """Whether this process is to make namespaces of the network, and may."""
    if not os.environ.get("LITHEPOSE_MACHINES") or not shutil.which("ip") or os.geteuid():
        return False
    made = subprocess.run(["ip", "netns", "add", "lithepose-try"], capture_output=True, check=False).returncode == 0
    if made:
        subprocess.run(["ip", "netns", "del", "lithepose-try"], check=True)
    return made


@pytest.mark.skipif(not in_namespaces(), reason="LITHEPOSE_MACHINES=1, and needs the rights of root")
def test_two_namespaces_train_as_one_process(folder):
    """Two machines with addresses of their own, joined by a cable."""
    names = [f"lithepose-{os.getpid()}-{side}" for side in "ab"]
    cables, addresses = [f"lp{os.getpid()}{side}" for side in "ab"], ["10.231.7.1", "10.231.7.2"]

    def ip(*arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True, capture_output=True)

    with ExitStack() as stack:
        for name in names:
            ip("netns", "add", name)
            stack.callback(ip, "netns", "del", name)
        ip("link", "add", cables[0], "type", "veth", "peer", "name", cables[1])
        for name, cable, address in zip(names, cables, addresses, strict=True):
            ip("link", "set", cable, "netns", name)
            ip("-n", name, "addr", "add", f"{address}/24", "dev", cable)
            ip("-n", name, "link", "set", cable, "up")
            ip("-n", name, "link", "set", "lo", "up")
        endpoint, commands = f"{addresses[0]}:29411", list[list[str]]()
        for name, cable, address in zip(names, cables, addresses, strict=True):
            inside = ["ip", "netns", "exec", name, "env", f"GLOO_SOCKET_IFNAME={cable}"]
            # Both have the same host name, by which torchrun would tell who waits for the others.
            host = f"--rdzv-conf=is_host={str(address == addresses[0]).lower()}"
            commands.append([*inside, *agent(folder, "2", endpoint, f"--local-addr={address}", host)])
        together(commands)
    assert_same(folder / "run", alone(folder))
