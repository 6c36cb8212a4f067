"""Tasks of a cluster, done in this process: blocks, shards, videos in segments, and the files that they leave."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest
from cluster_samples import people, predicted, rows, tar_of, video_of  # noqa: F401

pytest.importorskip("ray")

import pyarrow
import pyarrow.parquet

from lithepose.cli import main
from lithepose.cluster.config import Options
from lithepose.cluster.segments import cut
from lithepose.cluster.sources import works
from lithepose.cluster.storage import Store
from lithepose.cluster.work import WHOLE, Care, Segment
from lithepose.cluster.worker import Worker
from lithepose.errors import ConfigError, MissingFileError
from lithepose.media.inputs import Input
from lithepose.media.sources import Failed, ReadConfig, frames

OPTIONS = Options(runtime="onnx", block=4, segment=1.0)


def worker(out: Path, options: Options = OPTIONS) -> Worker:
    return Worker(options, str(out), os.getcwd(), None, 1)


def do(worker: Worker, *sources: str) -> None:
    for work in works(sources, 4):
        worker.block(work, Care())


def failed(out: Path) -> list[dict[str, str]]:
    lines = [line for file in sorted(out.glob("failed/*/*.jsonl")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def test_blocks_have_the_rows_of_predict_and_a_table_of_failures(people):
    do(worker(people.parent / "out"), "images")
    assert rows(people.parent / "out") == predicted("images")
    (failure,) = failed(people.parent / "out")
    assert failure["source"] == "images/3.jpg"
    assert "not an image" in failure["error"]


def test_a_task_that_is_done_again_replaces_its_own_files(people):
    out, doer = people.parent / "out", worker(people.parent / "out")
    do(doer, "images")
    before = sorted(path.relative_to(out) for path in out.rglob("*.*"))
    (people / "3.jpg").write_bytes((people / "2.jpg").read_bytes())
    do(doer, "images")
    after = sorted(path.relative_to(out) for path in out.rglob("*.*"))
    assert [path for path in before if path not in after] == [p for p in before if p.parts[0] == "failed"]
    assert len(rows(out)) == 6


def test_shards_and_lists(people):
    tar_of(people, people.parent / "a.tar")
    data = [(people / f"{i}.jpg").read_bytes() for i in range(3)]
    pyarrow.parquet.write_table(pyarrow.table({"n": [1, 2, 3, 4], "b": [*data, None]}), "b.parquet")
    structs = [{"bytes": content, "path": None} for content in data]
    pyarrow.parquet.write_table(pyarrow.table({"image": structs}), "c.parquet")
    Path("all.txt").write_text(f"# mine\na.tar\nb.parquet\n\nc.parquet\nfile://{people}/0.jpg\nfile://{people}/9.jpg\n")
    do(worker(people.parent / "out"), "all.txt")
    reference = {source: found for source, _, _, found in predicted("images")}
    found = {source: people for source, _, _, people in rows(people.parent / "out")}
    named = {f"a.tar/{i}.jpg": i for i in (0, 1, 2, 4, 5)} | {f"file://{people}/0.jpg": 0}
    named |= {f"{letter}.parquet/{i}": i for letter in "bc" for i in range(3)}
    assert found == {name: reference[f"images/{i}.jpg"] for name, i in named.items()}
    wrong = {failure["source"] for failure in failed(people.parent / "out")}
    assert wrong == {"a.tar/3.jpg", "b.parquet/3", f"file://{people}/9.jpg"}


def test_a_shard_that_is_cut_off_gives_what_comes_before(people):
    data = tar_of(people, people.parent / "a.tar").read_bytes()
    Path("cut.tar").write_bytes(data[: len(data) // 2])
    Path("none.parquet").write_bytes(b"nothing")
    do(worker(people.parent / "out"), "cut.tar", "none.parquet")
    assert [source for source, *_ in rows(people.parent / "out")] == ["cut.tar/0.jpg", "cut.tar/1.jpg"]
    assert {failure["source"] for failure in failed(people.parent / "out")} >= {"cut.tar", "none.parquet"}


def test_inputs_that_workers_died_of_are_left_out_and_marked(people):
    out = people.parent / "out"
    (work, _) = works(["images"], 4)
    worker(out).block(work, Care(((1, "it killed two"),), mark=True))
    assert Path(f"{out}/tmp/{work.name}.at").read_text() == "3"
    assert [source for source, *_ in rows(out)] == ["images/0.jpg", "images/2.jpg"]
    assert {failure["error"] for failure in failed(out)} >= {"it killed two"}


def test_a_video_in_segments_is_as_in_one_piece(people, astronaut):
    """Key frames at 0, 12, 24, 36: the segments begin at the next multiples of five."""
    video_of(astronaut, Path("v.mp4"))
    assert [(s.first, s.end) for s in cut("v.mp4", 1.0, 5)] == [(0, 15), (15, 25), (25, 40)]
    doer = worker(people.parent / "out")
    (work,) = works(["v.mp4"], 4)
    parts = doer.plan(work)
    assert len(parts) == 3
    for part in reversed(parts):
        assert doer.segment(work, part)
    done = doer.join(work, parts)
    found = rows(people.parent / "out")
    assert found == predicted("v.mp4", "--track")
    assert done.frames == len(found) == 40
    assert any("'id': 2" in people for *_, people in found)


def test_a_video_that_cannot_be_cut_or_read_is_read_in_one_piece(people, astronaut):
    data = video_of(astronaut, Path("v.mp4")).read_bytes()
    Path("cut.mp4").write_bytes(data[:-200])
    Path("none.mp4").write_bytes(b"nothing")
    doer = worker(people.parent / "out")
    assert doer.segment(next(works(["v.mp4"], 4)), Segment(15, 70, 1.5)) is False
    for work in works(["cut.mp4", "none.mp4"], 4):
        parts = doer.plan(work)
        read = [doer.segment(work, part) for part in parts]
        if not all(read):
            parts = [WHOLE]
            assert doer.segment(work, WHOLE)
        doer.join(work, parts)
    assert rows(people.parent / "out") == predicted("cut.mp4", "none.mp4", "--track")
    for failure in failed(people.parent / "out"):
        read = frames([Input(failure["source"], "video")], ReadConfig())
        assert [failure["error"]] == [str(item.error) for item in read if isinstance(item, Failed)]


def test_merge_reads_the_folder_and_writes_coco(people):
    do(worker(people.parent / "out"), "images")
    assert main(["merge", "out", "--out", "all.json", "--format", "coco", "-q"]) == 0
    predicted("images")
    assert main(["merge", "reference.jsonl", "--out", "coco.json", "--format", "coco", "-q"]) == 0
    assert json.loads(Path("all.json").read_text()) == json.loads(Path("coco.json").read_text())
    main(["predict", "images", "--json", "p.parquet", "--threads", "1", "-q", "--runtime", "onnx"])
    assert rows(Path("p.parquet")) == rows(people.parent / "out")
    Path("empty").mkdir()
    for name, says in (("empty", "poses/part="), ("images/0.jpg", "0.jpg"), ("gone.parquet", "no such file")):
        with pytest.raises((MissingFileError, ValueError), match=says):
            rows(Path(name))


def test_the_store_of_an_address_is_that_of_a_folder(tmp_path):
    store = Store("memory://bucket/out")
    store.write_text("poses/part=000000/000000000-a.parquet", "x")
    store.write_lines("failed/part=000000/000000000-a.jsonl", [{"source": "ä"}])
    assert list(store.names("poses", ".parquet")) == ["part=000000/000000000-a"]
    assert json.loads(store.read_text("failed/part=000000/000000000-a.jsonl") or "") == {"source": "ä"}
    store.write_lines("failed/part=000000/000000000-a.jsonl", [])
    assert store.read_text("failed/part=000000/000000000-a.jsonl") is None
    assert list(store.names("failed", ".jsonl")) == []
    store.remove("poses")
    store.remove("poses")


def test_without_the_extra_it_says_what_to_install(people, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fsspec", None)
    assert main(["cluster", "images", "--out", "out"]) == 2
    assert "pip install 'lithepose[cluster]'" in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(
    ("sources", "says"),
    [
        ((), "no input"),
        (("0",), "cameras"),
        (("rtsp://camera/1",), "streams"),
        (("gone",), "gone: no such file"),
        (("lists.txt",), "is a list inside a list"),
    ],
)
def test_sources_that_cannot_be(tmp_path, monkeypatch, sources, says):
    monkeypatch.chdir(tmp_path)
    Path("lists.txt").write_text("other.txt\n")
    with pytest.raises((ConfigError, MissingFileError), match=says):
        list(works(sources, 4))


def test_the_order_and_names_of_work(tmp_path, monkeypatch, astronaut):
    monkeypatch.chdir(tmp_path)
    Path("all.txt").write_text("a.jpg\nb.mp4\nc.jpg\nd.tar.gz\ns3://x/e.jpg\ns3://x/f.parquet?v=1\n")
    found = list(works(["all.txt"], 2))
    assert [(w.number, w.kind, w.sources) for w in found] == [
        (0, "video", ("b.mp4",)),
        (1, "images", ("a.jpg", "c.jpg")),
        (2, "tar", ("d.tar.gz",)),
        (3, "parquet", ("s3://x/f.parquet?v=1",)),
        (4, "images", ("s3://x/e.jpg",)),
    ]
    assert len({work.digest for work in found}) == 5
    assert found[1].name == f"part=000000/000000001-{found[1].digest}"
