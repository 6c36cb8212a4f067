"""The forms of other projects' outputs, as benchmarks/peers.py reads them, in networks that always say the same."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

onnx = pytest.importorskip("onnx")
pytest.importorskip("faster_coco_eval")

import peers
from onnx import TensorProto, helper, numpy_helper
from peer_models import open_peer

from lithepose.errors import ModelError


def constant_network(path: Path, shape: tuple[int, ...], **outputs: np.ndarray) -> Path:
    """Gives the same outputs for every image; they are added to nothing that is left of it."""
    nodes = [
        helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
        helper.make_node("Mul", ["sum", "zero"], ["no"]),
    ]
    nodes += [helper.make_node("Add", [f"{name}_is", "no"], [name]) for name in outputs]
    values = [numpy_helper.from_array(value.astype(np.float32), f"{name}_is") for name, value in outputs.items()]
    values.append(numpy_helper.from_array(np.float32(0), "zero"))
    graph = helper.make_graph(
        nodes,
        "constant",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, value.shape) for name, value in outputs.items()],
        values,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


IMAGE = np.zeros((240, 480, 3), np.uint8)  # in a square of 320: scale 2 / 3, top 80
JOINTS = np.stack([np.linspace(60, 240, 17), np.linspace(90, 220, 17)], 1)  # in the square


def in_image(xy: np.ndarray) -> np.ndarray:
    return (xy - (0, 80)) * 1.5


def test_yolo_before_and_after_doubles_are_removed(tmp_path):
    rows = np.zeros((8, 56))
    rows[0] = [150, 155, 200, 150, 0.9, *np.c_[JOINTS, np.full(17, 0.8)].ravel()]
    rows[1] = [152, 156, 200, 150, 0.7, *np.c_[JOINTS + 3, np.full(17, 0.8)].ravel()]  # the same person
    rows[2] = [20, 155, 30, 50, 0.01, *np.zeros(51)]
    before = constant_network(tmp_path / "before.onnx", (1, 3, 320, 320), out=rows.T[None])
    after = np.zeros((1, 300, 57))
    after[0, 0] = [50, 80, 250, 230, 0.9, 0, *rows[0, 5:]]
    ended = constant_network(tmp_path / "after.onnx", (1, 3, 320, 320), out=after)
    for path in (before, ended):
        poses = open_peer(path, 1)(IMAGE)
        assert len(poses) == 1
        assert np.allclose(poses.xy[0], in_image(JOINTS), atol=0.01)
        assert poses.person_score[0] == pytest.approx(0.9)
        assert poses.score[0] == pytest.approx(np.full(17, 0.8))


def test_classified_coordinates_go_back_by_the_crop(tmp_path, monkeypatch):
    along_x, along_y = np.zeros((1, 17, 384)), np.zeros((1, 17, 512))
    along_x[0, :, 192], along_y[0, :, 256] = 0.6, 0.9  # the middle of the crop, but for half a pixel
    path = constant_network(tmp_path / "rtm.onnx", (1, 3, 256, 192), x_scores=along_x, y_scores=along_y)

    class Finder:
        xywh, score = np.float32([[100, 50, 40, 80]]), np.float32([0.5])

        def __call__(self, image):
            return self

    monkeypatch.setattr("lithepose.PersonDetector", lambda *_, **__: Finder())
    poses = open_peer(path, 1)(IMAGE)
    assert np.allclose(poses.xy[0], (120, 90), atol=0.5)
    assert poses.score[0] == pytest.approx(np.full(17, 0.6))
    assert poses.person_score[0] == pytest.approx(0.3)


def test_other_outputs_are_refused(tmp_path):
    path = constant_network(tmp_path / "other.onnx", (1, 3, 32, 32), out=np.zeros((1, 84, 8)))
    with pytest.raises(ModelError, match="neither YOLO-pose nor RTMPose"):
        open_peer(path, 1)


def test_the_table_and_the_plot(tmp_path, stick_images):
    nobody = constant_network(tmp_path / "nobody.onnx", (1, 3, 64, 64), out=np.zeros((1, 56, 8)))
    out, plot = tmp_path / "table.csv", tmp_path / "plot.png"
    peers.main(stick_images, out, plot, (nobody,), ("lithe",), threads=1, rounds=2, limit=2)
    with out.open(newline="") as file:
        ours, other = csv.DictReader(file)
    assert (ours["model"], other["model"]) == ("lithe", "nobody.onnx")
    assert (float(ours["times_first"]), float(other["AP"])) == (1, 0)
    assert plot.stat().st_size > 10_000
