from __future__ import annotations

import json

import cv2
import numpy as np
import pytest
from conftest import write_video

from lithepose import Predictor
from lithepose.cli import main
from lithepose.heads.base import DecodeConfig
from lithepose.heads.heatmaps import HeatmapHead
from lithepose.heads.outputs import Found, Maps
from lithepose.heads.people import COCO_INSTANCES
from lithepose.inference.incremental import Incremental
from lithepose.media.sources import Frame
from lithepose.runtime.onnx import ModelInfo
from lithepose.skeleton import Skeleton

THREE = Skeleton("three", ("red", "green", "blue"))
ONE = HeatmapHead(THREE, THREE)


class Colours:
    """A network of one person whose joints are where the image is reddest, greenest and bluest, cell by cell."""

    def __init__(self) -> None:
        self.info = ModelInfo("colours", ONE, 32, 512)
        self.shapes: list[tuple[int, ...]] = []

    def __call__(self, images: np.ndarray) -> list[Maps | Found]:
        self.shapes += [image.shape[:2] for image in images]
        n, h, w, _ = images.shape
        cells = images.reshape(n, h // 8, 8, w // 8, 8, 3).mean((2, 4)).transpose(0, 3, 1, 2).astype(np.float32) / 255
        return [Maps.from_arrays(one, np.empty((0, *one.shape[1:]), np.float32)) for one in cells]


class Blurred(Colours):
    """One that sees four cells around."""

    def __call__(self, images: np.ndarray) -> list[Maps | Found]:
        out: list[Maps | Found] = []
        for maps in super().__call__(images):
            assert isinstance(maps, Maps)
            blurred = cv2.blur(np.ascontiguousarray(maps.heatmaps.transpose(1, 2, 0)), (9, 9)).transpose(2, 0, 1)
            out.append(Maps.from_arrays(np.ascontiguousarray(blurred), maps.pafs))
        return out


def image(*places: tuple[int, int], size: int = 512) -> np.ndarray:
    image = np.full((size, size, 3), 20, np.uint8)
    for channel, (x, y) in enumerate(places):
        image[y : y + 8, x : x + 8, channel] = 250
    return image


def incremental(runtime: Colours | None = None, **options: float) -> tuple[Incremental, Colours]:
    runtime = runtime or Colours()
    return Incremental(Predictor(runtime, config=DecodeConfig(joints=1)), **options), runtime  # pyright: ignore


@pytest.mark.parametrize("network", [Colours, Blurred])
def test_of_a_local_network_the_result_is_that_of_the_whole(network):
    start, runtime = incremental(network(), most=0.95)
    rng = np.random.default_rng(0)
    places = [(40, 40), (200, 40), (120, 200)]
    for _ in range(14):
        which = rng.integers(3)
        places[which] = tuple(np.clip(places[which] + 8 * rng.integers(-4, 5, 2), 0, 504).tolist())
        current = image(*places)
        start(current)
        (whole,) = network()(current[None])
        assert start._maps is not None
        assert np.allclose(start._maps.heatmaps, whole.heatmaps, atol=1e-5)
        assert np.allclose(start._maps.peak_score, whole.peak_score, atol=1e-5)
    parts = [shape for shape in runtime.shapes if shape != (512, 512)]
    assert len(parts) > 5
    assert all(h % 32 == w % 32 == 0 for h, w in parts)


def test_only_what_has_changed_is_looked_at():
    start, runtime = incremental()
    still = image((40, 40), (200, 40), (120, 200))
    first = start(still)
    assert start.share == 1
    assert start(still).xy.tolist() == first.xy.tolist()
    assert start.share == 0
    assert len(runtime.shapes) == 1
    start(image((40, 40), (200, 40), (128, 208)))
    assert 0 < start.share < 0.4


def test_noise_is_no_change_and_slow_change_is_one_in_time():
    start, runtime = incremental(every=1000)
    rng = np.random.default_rng(0)
    still = image((40, 40), (200, 40), (120, 200)).astype(float)
    for _ in range(20):
        start(np.clip(still + rng.normal(0, 6, still.shape), 0, 255).astype(np.uint8))
    assert len(runtime.shapes) == 1
    for step in range(12):  # a lamp goes on, one level a frame
        start((still + step).astype(np.uint8))
    assert 2 <= len(runtime.shapes) <= 4


def test_the_whole_is_looked_at_now_and_then_and_at_a_cut():
    start, runtime = incremental(every=5)
    still = image((40, 40), (200, 40), (120, 200))
    for _ in range(11):
        start(still)
    assert runtime.shapes == [(512, 512)] * 3
    start(255 - still)
    assert runtime.shapes == [(512, 512)] * 4
    start(image((40, 40), size=128))  # another shape
    assert len(runtime.shapes) == 5


def test_every_video_begins_anew():
    start, runtime = incremental()
    run = start.predictor.incremental_pipeline().run
    still = image((40, 40), (200, 40), (120, 200))
    for source, index in (("a.mp4", 0), ("a.mp4", 1), ("b.mp4", 0), ("b.mp4", 1), ("b.mp4", 0), ("c.jpg", None)):
        run(Frame(still, source, index))
    assert len(runtime.shapes) == 4


def test_what_has_no_maps_is_refused():
    class Boxes(Colours):
        def __init__(self) -> None:
            super().__init__()
            self.info = ModelInfo("boxes", COCO_INSTANCES, 32, 256)

        def __call__(self, images: np.ndarray) -> list[Maps | Found]:
            return [Found(np.zeros((0, 17, 2)), np.zeros((0, 17)), np.zeros(0))]

    with pytest.raises(ValueError, match="boxes has no maps"):
        Incremental(Predictor(Boxes()))
    with pytest.raises(ValueError, match="omit flip and scales"):
        Incremental(Predictor(Colours(), flip=True))


def test_command_and_stream(tmp_path, monkeypatch, model, capsys):
    monkeypatch.chdir(tmp_path)
    write_video(tmp_path / "clip.mp4", 6)
    options = ["clip.mp4", "--model", "lithe_paf", "--size", "128", "--json"]
    assert main(["predict", *options, "incremental.jsonl", "--incremental", "--smooth"]) == 0
    lines = [json.loads(line) for line in (tmp_path / "incremental.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    assert len(list(Predictor("lithe_paf", size=128).stream("clip.mp4", incremental=True, track=True))) == 6
    assert main(["predict", *options, "x.jsonl", "--incremental", "--boxes", "lithe_paf"]) == 2
    assert "omit one of them" in capsys.readouterr().err.replace("\n", " ")
