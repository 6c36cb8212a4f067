"""Several cameras at once."""

import itertools
import json
import time

import cv2
import numpy as np

from lithepose.cli import main
from lithepose.media.inputs import expand
from lithepose.media.live import together
from lithepose.media.sources import Failed, Frame, frames
from lithepose.tracking.per_source import PerSource


class Camera:
    """Twelve grey frames, 10 ms apart, of a brightness that tells its number."""

    def __init__(self, number):
        self.number, self.left = number, 12

    isOpened = lambda self: True  # noqa: E731, N815
    get = lambda self, _: 10.0  # noqa: E731
    release = lambda self: None  # noqa: E731

    def read(self):
        time.sleep(0.01)
        self.left -= 1
        return self.left >= 0, np.full((48, 64, 3), 20 + 100 * self.number, np.uint8)


def test_two_cameras_at_once(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    before = time.time()
    assert main(["predict", "0", "1", "--track", "--out", str(tmp_path)]) == 1  # both end, as cameras do not
    lines = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    assert {line["source"] for line in lines} == {"0", "1"}
    for source in "01":
        own = [line for line in lines if line["source"] == source]
        assert own[-1]["frame"] == 11  # the newest frame is never left out
        assert [line["frame"] for line in own] == sorted({line["frame"] for line in own})
        assert all(before <= line["clock"] <= time.time() for line in own)
        image = next(frames(expand([str(tmp_path / f"camera-{source}.mp4")])))
        assert isinstance(image, Frame)
        assert abs(image.image.mean() - (20 + 100 * int(source))) < 4


def test_files_come_before_cameras(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "VideoCapture", Camera)
    cv2.imwrite(str(tmp_path / "x.png"), np.zeros((8, 8, 3), np.uint8))
    found = list(frames(expand(["0", str(tmp_path / "x.png"), "1"])))
    assert isinstance(found[0], Frame)
    assert found[0].source.endswith("x.png")
    assert sorted(f.source for f in found if isinstance(f, Failed)) == ["0", "1"]


def test_no_reader_starves_another_and_only_live_items_are_left_out():
    fast = iter(range(1000))
    slow = iter(["a", "b"])
    found = list(together([fast, slow], live=lambda item: isinstance(item, int)))
    assert [item for item in found if isinstance(item, str)] == ["a", "b"]
    numbers = [item for item in found if isinstance(item, int)]
    assert numbers == sorted(numbers)
    assert numbers[-1] == 999


def test_readers_are_closed_when_no_one_takes_their_items():
    closed = []

    def reader(name):
        try:
            yield from itertools.count()
        finally:
            closed.append(name)

    items = together([reader("a"), reader("b")], live=lambda item: True)
    next(items)
    items.close()
    assert sorted(closed) == ["a", "b"]


def test_every_camera_has_a_state_of_its_own_and_every_video_a_new_one():
    states = PerSource(list)
    image = np.zeros((1, 1, 3), np.uint8)
    for source, index, live in (("0", 0, True), ("1", 0, True), ("0", 1, True), ("1", 1, True)):
        states.of(Frame(image, source, index, live=live)).append(index)
    assert states.of(Frame(image, "0", 2, live=True)) == [0, 1]
    assert states.of(Frame(image, "0", 0, live=True)) == []
    assert states.of(Frame(image, "v.mp4", 3)) == []
    states.of(Frame(image, "v.mp4", 4)).append(4)
    assert states.of(Frame(image, "v.mp4", 5)) == [4]
    assert states.of(Frame(image, "v.mp4", 0)) == []
