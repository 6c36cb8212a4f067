"""A call on a cluster: Ray on this machine, started once for the module."""

from __future__ import annotations

import importlib
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from cluster_samples import ENGINE, images_of, predicted, rows, tar_of, video_of

pytest.importorskip("ray")

from lithepose.cli import main
from lithepose.cluster import Machines, Options, Progress, connect, pool, predict
from lithepose.cluster.connect import cluster, ray
from lithepose.cluster.pool import Lost, Pool, Task
from lithepose.cluster.work import Care, Done, Work
from lithepose.errors import ConfigError, MissingFileError

OPTIONS = Options(runtime="onnx", block=2, segment=1.0)
MACHINES = Machines(cpus=1, workers=1)


@pytest.fixture(scope="module")
def started():
    with cluster("", 1):
        yield


@pytest.fixture
def sources(started, tmp_path, monkeypatch, astronaut) -> tuple[str, ...]:
    monkeypatch.chdir(tmp_path)
    tar_of(images_of(astronaut, Path("images")), Path("a.tar"))
    video_of(astronaut, Path("v.mp4"))
    return "images", "a.tar", "v.mp4"


def test_nothing_is_reported():
    assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
    from ray._common.usage import usage_lib

    assert not usage_lib.usage_stats_enabled()


def test_a_call_whose_worker_is_killed_has_the_rows_of_predict_and_a_second_one_nothing_to_do(sources, capsys):
    killed = list[int]()

    def kill_one(at: Progress) -> None:
        if at.done == 1 and not killed:
            killed.append(child_called("ray::Worker"))
            os.kill(killed[0], signal.SIGKILL)

    done = predict(sources, "out", OPTIONS, MACHINES, kill_one)
    assert killed
    wanted = predicted("images", "v.mp4", "--track")
    found = rows(Path("out"))
    assert [row for row in found if not row[0].startswith("a.tar")] == wanted
    assert len(found) == len(wanted) + 5
    assert (done.frames, done.files, done.before, done.failed) == (len(found), 5, 0, 2)
    assert "raylet" not in capsys.readouterr().out
    arguments = ["--out", "out", "--block", "2", "--segment", "1", "--cpus-per-worker", "1", *ENGINE]
    assert main(["cluster", *sources, *arguments]) == 1
    assert "0 frames, 0 people, 2 failed" in capsys.readouterr().err
    # What failed can be mended, and what is lost is done again.
    (Path("images") / "3.jpg").write_bytes((Path("images") / "2.jpg").read_bytes())
    lost = next(Path("out").glob("poses/*/000000000-*"))
    lost.unlink()
    done = predict(sources, "out", OPTIONS, Machines(cpus=1, workers=1, retry_failed=True))
    assert (done.files, done.failed) == (3, 1)
    assert len(rows(Path("out"))) == len(found) + 1
    for changed in ({"threshold": 0.5}, {"block": 3}):
        with pytest.raises(ConfigError, match="contains results made with other options"):
            predict(sources, "out", Options(runtime="onnx", **({"block": 2, "segment": 1.0} | changed)), MACHINES)
    with pytest.raises(ConfigError, match="of more sources than were passed"):
        predict(sources[:1], "out", OPTIONS, MACHINES)
    with pytest.raises(ConfigError, match="of other sources"):
        predict(sources[1:], "out", OPTIONS, MACHINES)


def test_the_benchmark_of_broken_files_in_small(started, tmp_path, monkeypatch):
    """Two nodes are the one of this module, which calls in processes of their own join by its address."""
    benchmark = importlib.import_module("cluster")

    @contextmanager
    def nodes(cpus):
        yield SimpleNamespace(address=ray.get_runtime_context().gcs_address)

    monkeypatch.setattr(benchmark, "two_nodes", nodes)
    benchmark.broken(tmp_path / "table.csv", images=12, broken=3, block=5)
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert sum(int(line.rpartition(",")[2]) for line in lines[1:]) == 3
    assert all(line.startswith("12,9,") for line in lines[1:])


def child_called(name: str) -> int:
    """A process below this one."""
    from processes import descendants

    return next(process for process, line in descendants(os.getpid()).items() if line.startswith(name))


def fragile():
    """A worker, for Ray, that dies of one source and raises for another."""

    class Fragile:
        def ready(self) -> int:
            return os.getpid()

        def end(self):
            pass

        def block(self, work: Work, care: Care) -> Done:
            leave = dict(care.leave)
            for place, source in enumerate(work.sources):
                if source == "deadly" and place not in leave:
                    os._exit(1)
                if source == "wrong":
                    raise ValueError("this one is wrong")
            return Done(len(work.sources) - len(leave), 0, len(leave))

    return ray.remote(num_cpus=1, max_restarts=0)(Fragile)


def test_what_workers_die_of_is_found_and_left_out(started, monkeypatch):
    monkeypatch.setattr(pool, "SUSPECT", 0)
    monkeypatch.setattr(pool, "ERRORS", 1)
    made = fragile()
    works = [Work(0, "images", ("a", "deadly", "b")), Work(1, "images", ("wrong",)), Work(2, "images", ("c",))]

    def marked(work: Work) -> int | None:
        return work.sources.index("deadly") if "deadly" in work.sources else None

    hands = Pool(iter([Task(work, "block") for work in works]), made.remote, 1, 1, marked)
    results = {task.work.number: result for task, result in hands.results()}
    assert results[0] == Done(2, 0, 1)
    assert isinstance(results[1], Lost)
    assert "this one is wrong" in results[1].reason
    assert results[2] == Done(1, 0, 0)


def test_calls_that_cannot_be_carried_out(started, tmp_path, monkeypatch, capsys, astronaut):
    monkeypatch.chdir(tmp_path)
    images_of(astronaut, Path("images"))
    assert main(["cluster", "images"]) == 2
    assert "--out" in capsys.readouterr().err
    for arguments, says in (
        (("gone", "--out", "out"), "gone: no such file"),
        (("images", "--out", "out", "--block", "0"), "block 0"),
        (("images", "--out", "nothing://x"), "nothing"),
        (("images", "--out", "out", "--model", "gone"), "gone"),
        (("images", "--out", "out", "--cpus-per-worker", "999"), "no machine of the cluster has 999 CPUs"),
    ):
        assert main(["cluster", *arguments]) == 2
        assert says in capsys.readouterr().err
    with pytest.raises(MissingFileError):
        predict(["gone"], "out2")
    Path("out3/poses/part=000000").mkdir(parents=True)
    Path("out3/poses/part=000000/000000000-a.parquet").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"without call\.json"):
        predict(["images"], "out3")
    Path("call").write_text("no folder")
    with pytest.raises(ConfigError, match="call: is a file"):
        predict(["images"], "call")
    assert not Path("out2").exists()  # of a source that is not there


def test_the_settings_are_there_before_ray():
    assert all(os.environ[name] == value for name, value in connect.SETTINGS.items())
