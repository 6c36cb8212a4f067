"""OpenVINO beside ONNX Runtime; runtimes, devices and precisions by name."""

from __future__ import annotations

import builtins
import importlib
import logging
import os
import pickle
import shutil
import subprocess
import sys
import threading

import numpy as np
import pytest

import lithepose
from lithepose.cli import main
from lithepose.errors import ConfigError, MissingExtraError, MissingFileError, ModelError
from lithepose.inference import models
from lithepose.inference.models import open_runtime, prefers_openvino
from lithepose.resources import WEIGHTS
from lithepose.runtime import onnx, openvino, providers
from lithepose.runtime.onnx import OnnxRuntime
from lithepose.runtime.openvino import OpenVinoRuntime


def noise(count: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def pair() -> tuple[OnnxRuntime, OpenVinoRuntime]:
    return OnnxRuntime(WEIGHTS / "lithe_paf.onnx", 1), OpenVinoRuntime(WEIGHTS / "lithe_paf.onnx", 1)


def test_maps_of_all_sizes_and_batches_agree(pair):
    assert pair[0].info == pair[1].info
    for count, height, width in ((1, 64, 128), (3, 128, 64), (2, 64, 128), (1, 64, 64)):
        for one, other in zip(*(runtime(noise(count, height, width)) for runtime in pair), strict=True):
            assert one.heatmaps.shape == other.heatmaps.shape
            assert np.abs(one.heatmaps - other.heatmaps).max() < 1e-4
            assert np.abs(one.pafs - other.pafs).max() < 1e-4
            assert np.abs(one.peak_score - other.peak_score).max() < 1e-4


def test_people_agree(astronaut):
    one, other = (lithepose.load(threads=1, runtime=name)(astronaut) for name in ("onnx", "openvino"))
    assert len(one) == len(other) == 1
    assert np.allclose(one.xy, other.xy, atol=0.05, equal_nan=True)
    assert np.allclose(one.score, other.score, atol=1e-3)


def test_a_frequent_shape_gets_a_graph_of_its_own_and_answers_alike(monkeypatch):
    monkeypatch.setattr(openvino, "OFTEN", 3)
    runtime = OpenVinoRuntime(WEIGHTS / "lithe_paf.onnx", 1)
    images = noise(1, 64, 128)
    answers = [runtime(images)[0].heatmaps for _ in range(5)]
    assert set(runtime._own) == {images.shape}
    for answer in answers[1:]:
        assert np.allclose(answers[0], answer, atol=1e-5)


def test_answers_are_not_written_over_by_the_next_call_nor_by_other_threads(pair):
    batches = [noise(1, 64, 64, seed) for seed in range(4)]
    alone = [pair[1](batch)[0].heatmaps for batch in batches]
    assert not np.allclose(alone[0], alone[1])
    found: dict[int, np.ndarray] = {}
    workers = [
        threading.Thread(target=lambda i=i: found.update({i: pair[1](batches[i])[0].heatmaps})) for i in range(4)
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for i, one in enumerate(alone):
        assert np.allclose(found[i], one, atol=1e-6)


def test_precision_and_threads_are_reported_and_survive_pickling(pair):
    assert "fp32, 1 thread" in pair[1].about
    again = pickle.loads(pickle.dumps(pair[1]))
    assert again.about == pair[1].about
    with pytest.raises(ConfigError, match="fp64"):
        OpenVinoRuntime(WEIGHTS / "lithe_paf.onnx", precision="fp64")


def test_bf16_is_asked_for_or_refused():
    try:
        runtime = OpenVinoRuntime(WEIGHTS / "lithe.onnx", 1, "bf16")
    except ModelError as error:
        assert "not supported by this processor" in str(error)  # noqa: PT017
    else:
        assert "bf16" in runtime.about


def test_what_openvino_cannot_load_is_named(tmp_path):
    with pytest.raises(MissingFileError, match=r"nothing\.onnx"):
        OpenVinoRuntime(tmp_path / "nothing.onnx")
    broken = tmp_path / "broken.onnx"
    broken.write_bytes((WEIGHTS / "lithe.onnx").read_bytes()[:3000])
    with pytest.raises(ModelError, match="OpenVINO cannot load it"):
        OpenVinoRuntime(broken)
    with pytest.raises(ModelError, match="ONNX Runtime cannot load it"):  # what auto takes then
        open_runtime(broken)
    with pytest.raises(ModelError, match=r"lithe_paf.*33x64"):
        OpenVinoRuntime(WEIGHTS / "lithe_paf.onnx", 1)(noise(1, 33, 64))


def test_auto_is_openvino_on_x86_alone_and_devices_are_onnx_runtimes(monkeypatch):
    monkeypatch.setattr(models, "prefers_openvino", prefers_openvino)
    monkeypatch.setattr(models.platform, "machine", lambda: "x86_64")
    assert isinstance(open_runtime("lithe", 1), OpenVinoRuntime)
    assert isinstance(open_runtime("lithe", 1, runtime="onnx"), OnnxRuntime)
    monkeypatch.setattr(models.platform, "machine", lambda: "aarch64")
    assert isinstance(open_runtime("lithe", 1), OnnxRuntime)


def test_without_openvino_auto_is_onnx_runtime_and_its_name_says_what_to_install(monkeypatch):
    monkeypatch.setattr(models, "prefers_openvino", prefers_openvino)
    monkeypatch.setattr(models, "find_spec", lambda name: None)
    assert isinstance(open_runtime("lithe", 1), OnnxRuntime)
    real = builtins.__import__

    def without(name, *rest, **named):
        if name == "openvino":
            raise ImportError("no openvino here", name="openvino")
        return real(name, *rest, **named)

    monkeypatch.delitem(sys.modules, "lithepose.runtime.openvino")
    monkeypatch.delitem(sys.modules, "lithepose.runtime.openvino_core")
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtraError, match=r"pip install 'lithepose\[openvino\]'"):
        importlib.import_module("lithepose.runtime.openvino")


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"runtime": "tensorflow"}, "choose one of auto, onnx, openvino, torch"),
        ({"device": "tpu"}, "choose one of cpu, cuda"),
        ({"precision": "int4"}, "choose one of fp32, bf16, int8"),
        ({"precision": "bf16", "runtime": "onnx"}, "bf16"),
        ({"runtime": "openvino", "device": "cuda"}, "use --runtime onnx"),
        ({"runtime": "torch", "precision": "int8"}, "precision int8"),
        ({"runtime": "torch", "device": "coreml"}, "device coreml"),
    ],
)
def test_combinations_that_cannot_be_are_refused(named, says):
    with pytest.raises(ConfigError, match=says):
        open_runtime("lithe" if named.get("precision") != "int8" else "lithe_paf", 1, **named)


@pytest.mark.skipif("CUDAExecutionProvider" in onnx.onnxruntime.get_available_providers(), reason="CUDA is there")
def test_a_device_that_is_not_there_is_one_line_and_exit_code_2(capsys):
    for command in (["predict", "astronaut.jpg"], ["benchmark"], ["evaluate", "lithe", "--data", "x"]):
        if command[0] == "predict":
            command = ["predict", str(WEIGHTS.parent / "samples" / "astronaut.jpg"), "--json", "-"]
        assert main([*command, "--device", "cuda"]) == 2
        said = capsys.readouterr()
        assert said.err.count("\n") == 1
        assert "device cuda" in said.err
        assert "available: cpu" in said.err
        assert "onnxruntime-gpu" in said.err
        assert not said.out


def test_a_session_that_was_moved_to_the_cpu_is_refused(monkeypatch):
    """As ONNX Runtime does where CUDA's libraries are missing."""
    has = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(providers.onnxruntime, "get_available_providers", lambda: has)
    real = onnx.onnxruntime.InferenceSession
    asked = []

    def session(path, options, providers):
        asked.append(providers)
        return real(path, options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(onnx.onnxruntime, "InferenceSession", session)
    with pytest.raises(ModelError, match=r"device cuda: .*does not start.*available: cuda, cpu"):
        OnnxRuntime(WEIGHTS / "lithe.onnx", 1, "cuda")
    assert asked == [has]


def test_weights_of_a_training_run_are_not_taken_for_bits():
    with pytest.raises(ConfigError, match=r"training run; add --runtime torch"):
        open_runtime(WEIGHTS / "lithe.safetensors")


def test_torch_takes_the_detector_from_its_onnx_where_its_weights_are_not_installed(tmp_path, monkeypatch, astronaut):
    for name in ("lithe.safetensors", "person_detector.onnx"):
        shutil.copy(WEIGHTS / name, tmp_path)
    (tmp_path / "manifest.toml").write_text((WEIGHTS / "manifest.toml").read_text())
    monkeypatch.setattr("lithepose.inference.models.WEIGHTS", tmp_path)
    model = lithepose.load(tmp_path / "lithe.safetensors", runtime="torch")
    assert isinstance(model, lithepose.TopDown)
    assert isinstance(model.finder, lithepose.PersonDetector)
    assert type(model.finder.runtime).__name__ == "OnnxRuntime"
    assert len(model(astronaut)) == 1


def test_torch_runs_the_weights_of_a_training_run(astronaut):
    one = lithepose.load(threads=1, runtime="onnx")(astronaut)
    other = lithepose.load(runtime="torch")(astronaut)
    assert np.nanmax(np.abs(one.xy - other.xy)) < 2
    with pytest.raises(MissingFileError, match=r"nothing\.safetensors"):
        open_runtime("nothing.onnx", runtime="torch")


def test_verbose_prints_what_runs(caplog, capsys):
    call = ["predict", str(WEIGHTS.parent / "samples" / "astronaut.jpg"), "--json", "-", "--runtime", "onnx"]
    with caplog.at_level(logging.WARNING, "lithepose"):  # and afterwards as it was
        caplog.handler.setLevel(logging.NOTSET)
        main(call)
        assert not caplog.messages
        main([*call, "-v"])
    assert any(message.startswith("lithe: ONNX Runtime") for message in caplog.messages)


def test_openvino_sends_nothing(tmp_path):
    """Its telemetry forks a process that reports each import, and leaves its number in the home folder."""
    code = """
import sys
sends, seen = {"os.fork", "os.posix_spawn", "socket.connect"}, []
sys.addaudithook(lambda event, _: seen.append(event) if event in sends else None)
import lithepose
from lithepose.resources import WEIGHTS
from lithepose.exporters.formats import to_openvino
from lithepose.runtime.openvino import OpenVinoRuntime
from pathlib import Path
to_openvino(WEIGHTS / "person_detector.onnx", Path("out.xml"), half=False)
OpenVinoRuntime("out.xml", threads=1)
import time
time.sleep(1)  # it reports from a thread
import openvino.tools.ovc.telemetry_utils as used
assert "stub" in used.tm.__name__, used.tm
assert not seen, seen
"""
    env = {name: value for name, value in os.environ.items() if name not in ("CI", "GITHUB_ACTIONS")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=tmp_path, env=env | {"HOME": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "intel").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")
def test_signals_arrive_after_networks_are_released():
    code = """
import faulthandler, os, signal
faulthandler.enable()  # gives the thread a stack for signals, as many programs do
from lithepose.resources import WEIGHTS
from lithepose.runtime.openvino import OpenVinoRuntime
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append(1))
first = OpenVinoRuntime(WEIGHTS / "lithe.onnx", 1)
second = OpenVinoRuntime(WEIGHTS / "lithe.onnx", 1)
del first  # in the order of making
del second
os.kill(os.getpid(), signal.SIGUSR1)
assert came == [1]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, (done.returncode, done.stderr)
