"""int8 files and other formats, of a tiny network with random weights."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import helper, numpy_helper

import lithepose
from lithepose.cli import main
from lithepose.errors import ConfigError, MissingFileError, ModelError
from lithepose.exporters import quantize as module
from lithepose.exporters.onnx import export_onnx
from lithepose.exporters.qdq import float_weights, layers_of, quantized, together
from lithepose.exporters.quantize import quantize
from lithepose.inference import models
from lithepose.inference.parity import network_inputs, parity, sample_images
from lithepose.media.image import write_image
from lithepose.networks.lithe import Lithe, LitheConfig
from lithepose.resources import WEIGHTS
from lithepose.runtime.onnx import OnnxRuntime
from lithepose.runtime.openvino import OpenVinoRuntime
from lithepose.runtime.torch import describe

SIZE = 64, 64


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A lithe of 64x64 crops whose heatmaps have peaks: random weights, made large at the end."""
    torch.manual_seed(0)
    net = Lithe(LitheConfig(widths=(8, 8, 8, 16, 16), depths=(1, 1, 1, 1), width=8)).eval()
    net.crop = SIZE
    for streams in net.predict.streams:
        torch.nn.init.normal_(streams[-1].weight, std=0.5)
    path = tmp_path_factory.mktemp("tiny") / "tiny.onnx"
    export_onnx(net, describe("lithe", net), path)
    return path


@pytest.fixture(scope="module")
def inputs(astronaut) -> list[np.ndarray]:
    corners = np.random.default_rng(0).integers(0, 448, (12, 2)).tolist()
    return [np.ascontiguousarray(astronaut[y : y + 64, x : x + 64]) for x, y in corners]


@pytest.fixture(scope="module")
def int8(tiny, inputs) -> tuple[Path, module.Quantization]:
    path = tiny.with_name("tiny-int8.onnx")
    return path, quantize(tiny, path, inputs)


def test_weights_are_integers_and_maps_stay_near(tiny, inputs, int8):
    path, done = int8
    graph = onnx.load(path).graph
    integers = [numpy_helper.to_array(t) for t in graph.initializer if t.name.endswith("_int")]
    weights = [array for array in integers if array.dtype == np.int8 and array.ndim == 4]
    assert len(weights) == done.layers
    assert all(np.abs(array.reshape(len(array), -1).astype(int)).max(1).max() == 127 for array in weights)
    assert 0 < done.error < 0.2
    assert done.layers + len(done.kept) == len(done.alone) + 1  # the first layer is not judged
    assert done.kept[0].startswith("net.backbone.stem")
    for runtime in (OnnxRuntime(path, 1), OpenVinoRuntime(path, 1)):
        assert runtime.info.precision == "int8"
        assert "int8" in runtime.about
        apart = parity(OnnxRuntime(tiny, 1), runtime, inputs)
        assert apart.points > 20
        assert apart.median < 4


def test_the_scale_of_the_input_is_in_the_weights_of_the_first_layer(tiny):
    graph = onnx.load(tiny).graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    made = {name: node.op_type for node in graph.node for name in node.output}
    assert made[first.input[0]] == "Sub"
    assert not any(tensor.name == "scale.std" for tensor in graph.initializer)


def test_openvino_keeps_the_bias_of_the_first_layer(astronaut):
    """With the second layer of the embedded network in int8, both runtimes return the same maps."""
    model, _ = module.read_graph(WEIGHTS / "lithe.onnx")
    layers = layers_of(model)
    second = [name for name, layer in layers.items() if layer.kind == "Conv"][1]
    ends, image = module.ends_of(layers), np.ascontiguousarray(astronaut[:256, 160:352])
    one = quantized(model, together(layers, {second}), ends, module._ranges(model, layers, [image]), 8)
    results = module._session_of(one, ends)(image[None]), module._openvino_of(one, ends)(image[None])
    for ours, theirs in zip(*results, strict=True):
        assert np.abs(ours - theirs).mean() < 0.01 * np.abs(ours).mean()


def test_operations_before_the_first_layer_do_not_hide_it():
    nodes = [
        helper.make_node("Gather", ["image", "first"], ["one"], axis=0),
        helper.make_node("Conv", ["one", "weight"], ["maps"], "conv"),
        helper.make_node("Gather", ["maps", "first"], ["read"], axis=1),
        helper.make_node("Conv", ["read", "weight"], ["smooth"], "smoothing"),
    ]
    arrays = {"first": np.array([0, 0, 0]), "weight": np.ones((3, 3, 1, 1), np.float32)}
    stored = [numpy_helper.from_array(array, name) for name, array in arrays.items()]
    ends = [helper.make_tensor_value_info(name, 1, ["n", 3, 8, 8]) for name in ("image", "smooth")]
    model = helper.make_model(helper.make_graph(nodes, "two", ends[:1], ends[1:], stored))
    assert list(layers_of(model)) == ["conv"]


def test_every_layer_in_int8_adds_its_error_and_sensitive_ones_are_kept(tiny, inputs, tmp_path):
    every = quantize(tiny, tmp_path / "every.onnx", inputs, share=1.0)
    kept = quantize(tiny, tmp_path / "kept.onnx", inputs, share=0.02)
    assert len(kept.kept) > len(every.kept)
    assert kept.error < every.error
    judged = sorted(every.alone, key=lambda name: -every.alone[name])
    assert kept.kept[1] == judged[0]


def test_a_layer_that_openvino_computes_wrongly_is_kept_in_float(tiny, inputs, tmp_path, monkeypatch):
    seen = []

    def wrong(model, names):
        seen.append(model)
        call = module._session_of(model, names)
        return lambda images: [array + (100 if len(seen) == 3 else 0) for array in call(images)]

    monkeypatch.setattr(module, "_openvino_of", wrong)
    monkeypatch.setattr(module, "find_spec", lambda name: True)
    done = quantize(tiny, tmp_path / "one.onnx", inputs, share=0.9)
    third = list(done.alone)[2]
    assert third in done.kept
    assert len(done.kept) == 2


def test_a_range_is_cut_where_few_values_lie():
    rng = np.random.default_rng(0)
    even = rng.uniform(-1, 3, 10_000).astype("f4")
    assert module._range(even, -1.0, 3.0) == (-1.0, 3.0)
    low, high = module._range(rng.normal(0, 1, 10_000).astype("f4"), -10.0, 60.0)
    assert (low, high) == pytest.approx((-10 * high / 60, high))
    assert 18 <= high < 30
    assert module._range(np.zeros(10, "f4"), 0.0, 0.0) == (0.0, 0.0)


def test_seven_bits_stay_within_63(tiny, inputs, tmp_path):
    quantize(tiny, tmp_path / "seven.onnx", inputs, bits=7)
    stored = [numpy_helper.to_array(t) for t in onnx.load(tmp_path / "seven.onnx").graph.initializer]
    assert max(int(np.abs(a.astype(int)).max()) for a in stored if a.dtype == np.int8) == 63


def test_layers_are_those_of_the_network_not_of_what_reads_people_off(tiny):
    model = onnx.load(tiny)
    float_weights(model)
    assert not any(t.data_type == onnx.TensorProto.FLOAT16 for t in model.graph.initializer)
    layers = layers_of(model)
    kinds = [layer.kind for layer in layers.values()]
    net = Lithe(LitheConfig(widths=(8, 8, 8, 16, 16), depths=(1, 1, 1, 1), width=8))
    assert kinds.count("Conv") == sum(isinstance(m, torch.nn.Conv2d) for m in net.modules())
    assert kinds.count("Add") == 4 + 2
    assert kinds.count("Resize") == 2
    assert {layer.kind for layer in together(layers, set()).values()} == set()


def test_what_cannot_be_quantized_is_named(tiny, inputs, int8, tmp_path):
    with pytest.raises(ConfigError, match="3 inputs"):
        quantize(tiny, tmp_path / "x.onnx", inputs[:3])
    with pytest.raises(MissingFileError, match=r"nothing\.onnx"):
        quantize(tmp_path / "nothing.onnx", tmp_path / "x.onnx", inputs)
    with pytest.raises(ModelError, match="already quantized to int8"):
        quantize(int8[0], tmp_path / "x.onnx", inputs)
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ModelError, match=r"text\.onnx"):
        quantize(tmp_path / "text.onnx", tmp_path / "x.onnx", inputs)


def test_int8_is_loaded_by_precision_from_the_manifest(tiny, int8, tmp_path, monkeypatch, astronaut):
    sha = hashlib.sha256(int8[0].read_bytes()).hexdigest()
    entry = f'int8 = {{ file = "tiny-int8.onnx", sha256 = "{sha}" }}'
    (tmp_path / "manifest.toml").write_text(
        f'[lithe]\nfile = "tiny.onnx"\ndetector = "finder"\n{entry}\n[finder]\nfile = "person_detector.onnx"\n'
    )
    for file in (tiny, int8[0], WEIGHTS / "person_detector.onnx"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(models, "WEIGHTS", tmp_path)
    assert models.open_runtime("lithe", 1).info.precision == "fp32"
    assert models.open_runtime("lithe", 1, precision="int8").info.precision == "int8"
    with pytest.raises(ConfigError, match=r"finder has no embedded int8 file \(available for: lithe\)"):
        models.open_runtime("finder", 1, precision="int8")
    both = lithepose.load("lithe", precision="int8", threads=1)  # with a detector that has none
    assert isinstance(both, lithepose.TopDown)
    assert both.predictor.runtime.info.precision == "int8"
    assert both.finder.runtime.info.precision == "fp32"
    with pytest.raises(ConfigError, match="is an int8 model"):
        models.open_runtime(int8[0], precision="fp32")
    with pytest.raises(ConfigError, match="is an fp32 model; make an int8 file with `lithepose export"):
        models.open_runtime(tiny, precision="int8")


def test_embedded_int8_files_are_those_of_the_manifest():
    for name, said in models.manifest().items():
        if "int8" in said:
            file = WEIGHTS / said["int8"]["file"]
            assert hashlib.sha256(file.read_bytes()).hexdigest() == said["int8"]["sha256"], name
            assert OnnxRuntime(file, 1).info.precision == "int8"


@pytest.mark.parametrize(
    ("options", "suffix"),
    [(["--precision", "fp32"], ".onnx"), (["--fixed", "64", "64"], ".onnx"), (["--to", "openvino"], ".xml")],
)
def test_exported_files_of_files_run_alike(tiny, tmp_path, options, suffix, capsys):
    out = tmp_path / f"made{suffix}"
    assert main(["export", str(tiny), "--out", str(out), *options]) == 0
    said = capsys.readouterr().out
    assert "median 0.0" in said
    runtime = models.open_runtime(out, 1)
    of_source = OnnxRuntime(tiny, 1).info
    assert runtime.info == (replace(of_source, small_crop=()) if "--fixed" in options else of_source)
    inputs = network_inputs(runtime.info, sample_images())
    assert inputs
    assert parity(OnnxRuntime(tiny, 1), runtime, inputs).median < 0.5
    if "--precision" in options:
        assert out.stat().st_size > 1.3 * tiny.stat().st_size
    if "--fixed" in options:
        assert [d.dim_value for d in onnx.load(out).graph.input[0].type.tensor_type.shape.dim] == [1, 64, 64, 3]
        crops = np.stack([image for image in inputs if image.shape[:2] == (64, 64)][:3])
        for name in ("onnx", "openvino"):  # one at a time, as the file takes no more
            found = models.open_runtime(out, 1, name)(crops)
            alone = [OnnxRuntime(tiny, 1)(crop[None])[0] for crop in crops]
            for one, other in zip(found, alone, strict=True):
                assert one.xy == pytest.approx(other.xy, abs=0.5)


def test_files_that_are_not_there_are_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for model, message in (
        ("runs/a/weights.safetensors", "runs/a/weights.safetensors: no such file"),
        ("a.onnx", "a.onnx: no such file"),
        ("lite", "lithe, person_detector"),
    ):
        assert main(["export", model]) == 2
        assert message in " ".join(capsys.readouterr().err.split())


def test_int8_from_the_command_line(tiny, inputs, tmp_path, capsys, astronaut):
    (tmp_path / "images").mkdir()
    for i in range(8):
        write_image(tmp_path / "images" / f"{i}.png", astronaut)
    out = tmp_path / "tiny-int8.onnx"
    call = ["export", str(tiny), "--precision", "int8", "--out", str(out)]
    assert main([*call, "--calibrate", str(tmp_path / "images")]) == 0
    said = capsys.readouterr().out
    assert "in float: net.backbone.stem" in said
    assert said.count("pixels over") == 2  # in ONNX Runtime and in OpenVINO
    assert OnnxRuntime(out, 1).info.precision == "int8"
    assert main(call) == 2
    assert "--calibrate FOLDER must be used together" in capsys.readouterr().err
    assert main(["export", str(out), "--precision", "fp16", "--out", str(tmp_path / "x.onnx")]) == 2
    assert "already quantized to int8" in capsys.readouterr().err
    assert main(["export", str(tiny), "--fixed", "96", "64", "--out", str(tmp_path / "x.onnx")]) == 2
    assert "only supports 64x64" in capsys.readouterr().err
