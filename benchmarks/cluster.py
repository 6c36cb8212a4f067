"""Benchmarks and checks of ``lithepose cluster`` on two local nodes, compared with ``lithepose predict``.

    python benchmarks/cluster.py speed --out TABLE.csv --images 20000
    python benchmarks/cluster.py kills --out TABLE.csv --kills 10
    python benchmarks/cluster.py broken --out TABLE.csv --images 2000 --broken 100
    python benchmarks/cluster.py video --out TABLE.csv --seconds 180
    python benchmarks/cluster.py memory --out TABLE.csv --images 100000

Images are generated from the embedded one: moved, mirrored and shrunk. Every command compares the rows with those of
``predict`` and fails if they differ. Linux only, because processes are read from /proc. The nodes are child processes,
each with ``--cpus``; only these are killed.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import tyro
from processes import Watched, alive, descendants

import lithepose
from lithepose.cluster import connect
from lithepose.media.image import read_image
from lithepose.poses import Poses
from lithepose.timing import cpu, write_table
from lithepose.writers.resume import read_results
from lithepose.writers.video import VideoWriter

SAMPLE = Path(lithepose.__file__).parent / "samples" / "astronaut.jpg"
STORE = 80_000_000  # bytes of a node's object store


def image(number: int, side: int) -> np.ndarray:
    """Return (side, side, 3) RGB: a crop of the embedded image, different for every number."""
    rng, sample = np.random.default_rng(number), read_image(SAMPLE)
    size = int(rng.integers(300, 512))
    x, y = rng.integers(0, 513 - size, 2)
    window = sample[y : y + size, x : x + size][:, :: rng.choice((-1, 1))]
    return cv2.resize(np.ascontiguousarray(window), (side, side), interpolation=cv2.INTER_AREA)


def make_images(folder: Path, count: int, side: int, broken: int = 0) -> set[str]:
    """Write JPEG files and return their names. ``broken`` of them are cut in half, empty or text."""
    folder.mkdir()
    chosen = set(random.Random(0).sample(range(count), broken))
    for i in range(count):
        data = cv2.imencode(".jpg", image(i, side)[..., ::-1])[1].tobytes()
        if i in chosen:
            data = (data[: len(data) // 2], b"", b"no image")[i % 3]
        (folder / f"{i:06d}.jpg").write_bytes(data)
    return {f"{i:06d}.jpg" for i in chosen}


@contextmanager
def two_nodes(cpus: int) -> Iterator:
    """Start a cluster of two nodes with the address ``.address``."""
    from ray.cluster_utils import Cluster

    arguments = {"num_cpus": cpus, "object_store_memory": STORE, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, connect=False, head_node_args=arguments)
    try:
        cluster.add_node(**{name: arguments[name] for name in ("num_cpus", "object_store_memory")})
        yield cluster
    finally:
        cluster.shutdown()


def command(*arguments: object) -> list[str]:
    """Return the command line of lithepose with these arguments."""
    return [sys.executable, "-m", "lithepose", *map(str, arguments)]


def run(folder: Path, *arguments: object, codes: tuple[int, ...] = (0,)) -> float:
    """Run the command line; returns seconds."""
    began = time.monotonic()
    done = subprocess.run(command(*arguments), cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode in codes, f"{done.returncode}: {done.stderr}"
    return time.monotonic() - began


def rows(path: Path) -> list[str]:
    """Return the sorted JSON lines, one per frame."""
    found = [json.dumps([p.source, p.index, p.time and round(p.time, 4), s.to_dict()]) for p, s in read_results(path)]
    return sorted(found)


def same_rows(out: Path, reference: Path) -> int:
    """Compare the rows of two files; returns their number.

    Raises:
        AssertionError: rows are missing, duplicated or different.
    """
    found, wanted = rows(out), rows(reference)
    twice = [row for row, count in Counter(found).items() if count > 1]
    assert not twice, f"{len(twice)} duplicate rows, such as {twice[0]}"
    assert found == wanted, f"{len(set(wanted) - set(found))} of {len(wanted)} rows are missing or different"
    return len(found)


def speed(
    out: Path,
    images: int = 20_000,
    side: int = 96,
    cpus: int = 1,
    block: int = 500,
    rounds: int = 1,
    small: bool = False,
) -> None:
    """Compare the wall time of two nodes with one process of as many threads, in turns.

    Args:
        out: CSV file to write.
        images: images of a round.
        side: side of an image, in pixels.
        cpus: CPUs of each node.
        block: images of a task.
        rounds: number of rounds, each a row of the table.
        small: use an untrained network that finds no person, to measure the cost of everything else.
    """
    table = []
    with tempfile.TemporaryDirectory() as name, two_nodes(cpus) as nodes:
        folder = Path(name)
        make_images(folder / "images", images, side)
        model = ("--model", small_network(folder / "small.onnx")) if small else ()
        for number in range(rounds):
            options = "images", "--out", f"out{number}", "--address", nodes.address, "--cpus-per-worker", cpus, *model
            json_file = folder / f"p{number}.jsonl"
            with Watched(os.getpid()) as watched:
                alone = run(folder, "predict", "images", "--json", json_file.name, "--threads", 2 * cpus, *model)
            alone_cpu = watched.seconds("lithepose")
            with Watched(os.getpid()) as watched:
                together = run(folder, "cluster", *options, "--block", block)
            same_rows(folder / f"out{number}", json_file)
            workers = watched.seconds("ray::")
            table.append(
                {
                    "cpu": cpu(),
                    "network": "small" if small else "lithe",
                    "images": images,
                    "predict_s": round(alone, 1),
                    "cluster_s": round(together, 1),
                    "predict_over_cluster": round(alone / together, 3),
                    "predict_cpu_s": round(alone_cpu, 1),
                    "workers_cpu_s": round(workers, 1),
                    "images_a_cpu_hour": round(3600 * images / workers) if workers else "",
                }
            )
            print(table[-1], flush=True)
    write_table(out, table)


def kills(out: Path, kills: int = 10, images: int = 300, side: int = 96, cpus: int = 1, block: int = 20) -> None:
    """Kill a worker, a node and the driver in turns at random moments; then call again and compare.

    Args:
        out: CSV file to write.
        kills: total number of kills.
        images: images of a call.
        side: side of an image, in pixels.
        cpus: CPUs of each node.
        block: images of a task.
    """
    table, chance = [], random.Random(0)
    with tempfile.TemporaryDirectory() as name, two_nodes(cpus) as nodes:
        folder = Path(name)
        make_images(folder / "images", images, side)
        run(folder, "predict", "images", "--json", "p.jsonl", "--threads", cpus)

        def options(number: int) -> tuple[object, ...]:
            called = "images", "--out", f"out{number}", "--block", block, "--cpus-per-worker", cpus
            return "cluster", *called, "--address", nodes.address

        undisturbed = run(folder, *options(0))
        same_rows(folder / "out0", folder / "p.jsonl")
        for number in range(1, kills + 1):
            what = ("worker", "node", "driver")[number % 3]
            moment = chance.uniform(0.3, 0.95) * undisturbed
            driver = subprocess.Popen(command(*options(number)), cwd=folder, stderr=subprocess.PIPE, text=True)
            time.sleep(moment)
            files = len(list((folder / f"out{number}").glob("poses/*/*.parquet")))
            if what == "driver":
                driver.kill()
            elif what == "node":
                kill_node(nodes, cpus)
            else:
                workers = [p for p, n in descendants(os.getpid()).items() if n.startswith("ray::Worker")]
                for process in chance.sample(workers, min(1, len(workers))):
                    os.kill(process, signal.SIGKILL)
            said = driver.communicate(timeout=600)[1]
            assert what == "driver" or driver.returncode == 0, said
            run(folder, *options(number))
            count = same_rows(folder / f"out{number}", folder / "p.jsonl")
            at = {"kill": number, "of": what, "at_s": round(moment, 1), "files_there": files}
            table.append(at | {"code": driver.returncode, "rows": count, "twice": 0, "lost": 0})
            print(table[-1], flush=True)
    write_table(out, table)


def kill_node(nodes, cpus: int) -> None:
    """Kill all processes of the second node, and start a new one."""
    node = next(iter(nodes.worker_nodes))
    raylets = [p.process.pid for p in node.all_processes["raylet"]]
    below = [process for raylet in raylets for process in descendants(raylet)]
    for process in [*raylets, *below]:
        if alive(process):
            os.kill(process, signal.SIGKILL)
    nodes.remove_node(node, allow_graceful=False)
    nodes.add_node(num_cpus=cpus, object_store_memory=STORE)


def broken(out: Path, images: int = 2000, broken: int = 100, side: int = 96, cpus: int = 1, block: int = 100) -> None:
    """Process broken files among others: all must be in the table of failures, and all others done.

    Args:
        out: CSV file to write.
        images: total number of images.
        broken: number of broken ones.
        side: side of an image, in pixels.
        cpus: CPUs of each node.
        block: images of a task.
    """
    with tempfile.TemporaryDirectory() as name, two_nodes(cpus) as nodes:
        folder = Path(name)
        bad = make_images(folder / "images", images, side, broken)
        run(folder, "predict", "images", "--json", "p.jsonl", "--threads", cpus, codes=(1,))
        options = "images", "--out", "out", "--block", block, "--cpus-per-worker", cpus, "--address", nodes.address
        run(folder, "cluster", *options, codes=(1,))
        count = same_rows(folder / "out", folder / "p.jsonl")
        lines = [line for file in (folder / "out").glob("failed/*/*.jsonl") for line in file.read_text().splitlines()]
        failed = [json.loads(line) for line in lines]
        assert sorted(Path(f["source"]).name for f in failed) == sorted(bad)
        assert all(f["error"] for f in failed)
        reasons = Counter(f["error"].partition(": ")[2] for f in failed)
        table = [{"images": images, "rows": count, "reason": reason, "failed": n} for reason, n in reasons.items()]
    print(*table, sep="\n")
    write_table(out, table)


def make_video(path: Path, seconds: float, rate: int, size: tuple[int, int] = (640, 360)) -> None:
    """Make a video of two people who pass each other, leave the image and come back, over constant noise."""
    person = cv2.resize(read_image(SAMPLE)[:, 90:400], (190, 310))
    ground = np.random.default_rng(0).integers(60, 120, (size[1] // 20, size[0] // 20, 3)).astype(np.uint8)
    ground = cv2.resize(ground, size)
    with VideoWriter(path, rate) as video:
        for i in range(round(seconds * rate)):
            frame, t = ground.copy(), i / rate
            for number, (turn, speed) in enumerate(((1, 0.31), (-1, 0.23))):
                x = round(size[0] / 2 - 95 + (size[0] / 2 + 60) * np.sin(speed * t + 2 * number))
                left, right = max(x, 0), min(x + 190, size[0])
                if right > left:
                    frame[40:350, left:right] = person[:, ::turn][:, left - x : right - x]
            video.write(frame, t)


def similarity(a: np.ndarray, b: np.ndarray, area: float, sigmas: tuple[float, ...]) -> float:
    """Object keypoint similarity of two people, (K, 2), over the joints of either; a joint of only one counts as 0."""
    either = np.isfinite(a).all(1) | np.isfinite(b).all(1)
    distance = ((a - b) ** 2).sum(1) / (2 * max(area, 1.0) * (2 * np.array(sigmas)) ** 2)
    each = np.where(np.isfinite(distance), np.exp(-np.nan_to_num(distance)), 0)
    return float(each[either].mean()) if either.any() else 1.0


def video(out: Path, seconds: float = 180, rate: int = 10, segment: float = 20, cpus: int = 1) -> None:
    """Compare ids and joints of a video in segments with the same video in one piece.

    Args:
        out: CSV file to write.
        seconds: length of the video.
        rate: frames per second.
        segment: shortest length of a segment, in seconds.
        cpus: CPUs of each node.
    """
    with tempfile.TemporaryDirectory() as name, two_nodes(cpus) as nodes:
        folder = Path(name)
        make_video(folder / "v.mp4", seconds, rate)
        run(folder, "predict", "v.mp4", "--track", "--json", "p.jsonl", "--threads", cpus)
        options = "v.mp4", "--out", "out", "--segment", segment, "--cpus-per-worker", cpus, "--address", nodes.address
        with Segments(folder / "out") as parts:
            run(folder, "cluster", *options)
        one = {p.index: poses for p, poses in read_results(folder / "p.jsonl")}
        cut = {p.index: poses for p, poses in read_results(folder / "out")}
    assert one.keys() == cut.keys(), "every frame must occur once"
    likeness, ids = [], 0
    for index, poses in one.items():
        other: Poses = cut[index]
        assert len(poses) == len(other), f"frame {index}: {len(poses)} and {len(other)} people"
        ids += int(np.sum(poses.id == other.id)) if len(poses) else 0
        for a, b, box in zip(poses.xy, other.xy, poses.boxes, strict=True):
            likeness.append(similarity(a, b, float(box[2] * box[3]), poses.skeleton.sigmas))
    people = sum(map(len, one.values()))
    numbers = {int(i) for poses in one.values() if poses.id is not None for i in poses.id}
    row = {"frames": len(one), "segments": parts.count, "people": people, "ids": len(numbers), "same_id": ids}
    row |= {"mean_oks": round(float(np.mean(likeness)), 6), "least_oks": round(min(likeness), 6)}
    print(row)
    write_table(out, [row])
    assert ids == people
    assert min(likeness) > 0.99


class Segments:
    """Counts the files of segments that appear under OUT while the block runs."""

    def __init__(self, out: Path) -> None:
        self._out, self._seen = out, set[str]()

    @property
    def count(self) -> int:
        return len(self._seen)

    def __enter__(self) -> Segments:
        import threading

        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.05):
            self._seen |= {path.name for path in self._out.glob("segments/*/*/*.npy")}


def memory(out: Path, images: int = 100_000, side: int = 32, cpus: int = 1, block: int = 2000, model: str = "") -> None:
    """Measure the memory of the driver and of the workers over many rows.

    Args:
        out: CSV file to write.
        images: number of rows.
        side: side of an image, in pixels.
        cpus: CPUs of each node.
        block: images of a shard.
        model: model to run; by default an untrained one for images of 64 pixels, which finds no person.
    """
    import io
    import tarfile

    with tempfile.TemporaryDirectory() as name, two_nodes(cpus) as nodes:
        folder = Path(name)
        model = model or str(small_network(folder / "small.onnx"))
        encoded = [cv2.imencode(".jpg", image(i, side)[..., ::-1])[1].tobytes() for i in range(200)]
        for shard in range(0, images, block):
            with tarfile.open(folder / f"{shard:08d}.tar", "w") as tar:
                for i in range(shard, min(shard + block, images)):
                    entry = tarfile.TarInfo(f"{i:08d}.jpg")
                    entry.size = len(encoded[i % 200])
                    tar.addfile(entry, io.BytesIO(encoded[i % 200]))
        options = "*.tar", "--out", "out", "--cpus-per-worker", cpus, "--model", model, "--address", nodes.address
        with Watched(os.getpid()) as watched:
            seconds = run(folder, "cluster", *options)
        assert sum(1 for _ in read_results(folder / "out")) == images
    table = []
    for kind, names in {"driver": ("lithepose cluster",), "workers": ("ray::Worker",)}.items():
        for tenth, largest in enumerate(watched.tenths(names), 1):
            table.append({"of": kind, "tenth": tenth, "largest_mb": round(largest, 1)})
    print(f"{images} images in {seconds:.0f} s", *table, sep="\n")
    write_table(out, table)


def small_network(path: Path) -> Path:
    """Write an untrained network for images of 64 pixels."""
    import torch

    from lithepose.exporters.onnx import export_onnx
    from lithepose.networks import build
    from lithepose.runtime.base import ModelInfo

    torch.manual_seed(0)
    net = build("lithe_paf", width=16, context=16, blocks=(1,)).eval()
    export_onnx(net, ModelInfo("small", net.head, net.multiple, 64), path)
    return path


if __name__ == "__main__":
    os.environ |= connect.SETTINGS
    COMMANDS: dict[str, Callable[..., None]] = {f.__name__: f for f in (speed, kills, broken, video, memory)}
    tyro.extras.subcommand_cli_from_dict(COMMANDS)
