"""What the driver of a cluster decides: which task follows another, and which files belong to a model."""

from __future__ import annotations

import pytest

pytest.importorskip("ray")

from lithepose.cluster.config import Options
from lithepose.cluster.pool import Task
from lithepose.cluster.run import Videos
from lithepose.cluster.work import WHOLE, Segment, Work

CLIP = Work(0, "video", ("clip.mp4",))
PARTS = [Segment(0, 10), Segment(10, 20, 1.0)]


class Added(list):
    """A pool that only notes its tasks."""

    def add(self, task: Task) -> None:
        self.append((task.method, task.arguments))


def test_a_video_is_joined_when_its_parts_are_done():
    pool = Added()
    videos = Videos(pool)  # pyright: ignore[reportArgumentType]
    videos.go_on(Task(CLIP, "plan"), PARTS)
    assert pool == [("segment", (part,)) for part in PARTS]
    videos.go_on(Task(CLIP, "segment", (PARTS[1],)), True)
    assert len(pool) == 2
    videos.go_on(Task(CLIP, "segment", (PARTS[0],)), True)
    assert pool[2:] == [("join", (PARTS,))]


def test_a_video_is_read_in_one_piece_once_however_late_its_parts_fail():
    pool = Added()
    videos = Videos(pool)  # pyright: ignore[reportArgumentType]
    videos.go_on(Task(CLIP, "plan"), PARTS)
    videos.go_on(Task(CLIP, "segment", (PARTS[0],)), False)
    videos.go_on(Task(CLIP, "segment", (WHOLE,)), True)
    assert pool[2:] == [("segment", (WHOLE,)), ("join", ([WHOLE],))]
    videos.go_on(Task(CLIP, "segment", (PARTS[1],)), False)
    assert len(pool) == 4


def test_a_model_is_sent_with_the_files_that_belong_to_it(tmp_path):
    for name in ("a.xml", "a.bin", "b.onnx", "b.safetensors", "c.safetensors", "c-float.onnx"):
        (tmp_path / name).write_bytes(name.encode())

    def names(model: str, runtime: str = "auto") -> list[str]:
        return [file.name for file in Options(model=str(tmp_path / model), runtime=runtime).model_files()]

    assert names("a.xml") == ["a.xml", "a.bin"]
    assert names("b.onnx") == ["b.onnx"]
    assert names("b.onnx", "torch") == ["b.onnx", "b.safetensors"]
    assert names("c.safetensors") == ["c.safetensors", "c-float.onnx"]
    assert Options().model_files() == []
    before = Options(model=str(tmp_path / "a.xml")).saved()["model"]
    (tmp_path / "a.bin").write_bytes(b"other weights")
    assert Options(model=str(tmp_path / "a.xml")).saved()["model"] != before
