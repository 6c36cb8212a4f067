"""Networks in bits: modules, whole networks, their files, and the command line without torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from conftest import SAMPLES

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from live import enliven
from safetensors.numpy import load_file
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn

from lithepose import Predictor
from lithepose.binary.bits import BinaryLayer
from lithepose.binary.pack import FloatPart, float_interval, integer_interval, pack, pack_module, pack_stages
from lithepose.binary.planes import Signs, Team, pack_activations
from lithepose.binary.runtime import PackedRuntime
from lithepose.binary.stages import Workers, refine
from lithepose.cli import main
from lithepose.networks import build
from lithepose.networks.binary_paf import BinaryConv2d, BinaryPaf, MultiScaleModule, binarized
from lithepose.runtime.torch import TorchRuntime, describe

OPTIONS = {"stages": 2, "backbone": "mobilenet_v1"}


def shake(net: nn.Module) -> nn.Module:
    """BatchNorm as training may leave it: gamma of both signs and 0, means and shifts anywhere."""
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            for tensor in (norm.weight.data, norm.bias.data, norm.running_mean):
                tensor.normal_()
            norm.running_var.uniform_(0.1, 3)
            norm.weight.data[:2] = torch.tensor([0.0, -0.0])[: len(norm.weight)]
    return net.eval()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_module_is_torchs_bit_for_bit(threads):
    """Signs, chain, concatenation and sum; and the signs of the sum that the next module reads."""
    torch.manual_seed(0)
    module, team = shake(MultiScaleModule(128, 128, binarized)), Team(threads)
    following = shake(nn.BatchNorm2d(128))
    packed = pack_module(module)
    for batch, height, width in ((1, 46, 46), (2, 3, 17), (1, 1, 1), (1, 2, 46)):
        x = torch.randn(batch, 128, height, width)
        maps = x.numpy()
        after = Signs.of(float_interval(following), maps.shape)
        out = packed(maps.copy(), pack_activations(maps, packed.enter, team=team), after, team)
        with torch.no_grad():
            expected = module(x)
            signs = following(expected).numpy()
        assert torch.equal(torch.from_numpy(out), expected)
        assert np.array_equal(after.planes.words, pack_activations(signs).words)


def test_intervals_are_exact():
    """At the threshold and the floats on either side of it; gamma above, below and at 0."""
    torch.manual_seed(1)
    norm = shake(nn.BatchNorm2d(64))
    interval = float_interval(norm)
    assert np.isinf(interval.low[:2]).all()
    assert (np.isfinite(interval.low) == (norm.weight > 0).numpy()).all()
    assert (np.isfinite(interval.high) == (norm.weight < 0).numpy()).all()
    edge = np.where(np.isfinite(interval.low), interval.low, interval.high)
    edge[:2] = 1
    for value in (np.nextafter(edge, np.float32(-np.inf)), edge, np.nextafter(edge, np.float32(np.inf))):
        inside = (value >= interval.low) & (value <= interval.high)
        with torch.no_grad():
            assert np.array_equal(norm(torch.from_numpy(value)[None, :, None, None]).view(-1).numpy() >= 0, inside)


def test_intervals_of_sums_are_exact():
    norm = shake(nn.BatchNorm2d(3))
    norm.weight.data = torch.tensor([2.0, -1.0, 0.0])
    norm.bias.data = torch.tensor([-1.0, 0.5, -3.0])
    norm.running_mean = torch.tensor([0.25, 0.0, 0.0])
    norm.running_var.fill_(1 - norm.eps)
    layer = BinaryLayer.from_weights(np.ones((3, 2, 3, 3)), np.float32([0.25, 0.125, 1]))
    interval = integer_interval(norm, layer)
    far = np.iinfo(np.int32)
    # 2 (s / 4 - 1 / 4) - 1 >= 0 from 3 on; 1 / 2 - s / 8 >= 0 up to 4; -3 never.
    assert interval.low.tolist() == [3, far.min, far.max]
    assert interval.high.tolist() == [far.max, 4, far.min]


def write(path, layers="binary", **options):
    """Weights of a fresh network with maps of a trained one's size."""
    torch.manual_seed(0)
    options = OPTIONS | {"layers": layers} | options
    net = build("binary_paf", **options)
    enliven(net, torch.randn(2, 3, 64, 96))
    with torch.no_grad():
        for stage in net.stages:
            for last in (stage.limbs[-1][0], stage.joints[-1][0]):
                last.weight.mul_(0.1)
                last.bias.mul_(0.1)
    info = describe("binary_paf", net, size=128)
    said = {"lithepose": json.dumps({"info": json.loads(info.to_json()), "options": options})}
    save_file(net.state_dict(), path, said)
    return net.eval(), info


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    net, info = write(folder / "weights.safetensors")
    difference = pack(folder / "weights.safetensors", folder / "small.safetensors", size=96)
    return folder / "small.safetensors", net, info, difference


def margin(net: BinaryPaf, image: np.ndarray) -> float:
    """How far from 0 the nearest value is whose sign is taken of a float."""
    nearest: list[float] = []
    first = [module.three[1] for module in net.modules() if isinstance(module, MultiScaleModule)]
    hooks = [m.register_forward_pre_hook(lambda _, x: nearest.append(x[0].abs().min().item())) for m in first]
    TorchRuntime(net, describe("binary_paf", net))(image)
    for hook in hooks:
        hook.remove()
    return min(nearest)


def test_the_whole_network_is_torchs(packed):
    """Rounding in the float part turns a sign now and then, so look at the image where none is near to turning."""
    path, net, info, difference = packed
    assert difference < 1e-5
    images = [np.random.default_rng(i).integers(0, 256, (1, 64, 64, 3), np.uint8) for i in range(24)]
    image = max(images, key=lambda image: margin(net, image))
    (expected,) = TorchRuntime(net, info)(image)
    assert 0.1 < np.abs(expected.heatmaps).max() < 2
    for threads in (1, 2):
        (got,) = PackedRuntime(path, threads)(image)
        for name in ("heatmaps", "pafs", "peak_score"):
            assert np.abs(getattr(got, name) - getattr(expected, name)).max() < 1e-5, name
        sure = expected.peak_score > 1e-3
        assert np.array_equal(got.peak_cell[sure], expected.peak_cell[sure])


def test_a_batch_is_its_images(packed):
    runtime = PackedRuntime(packed[0], 3)
    images = np.random.default_rng(0).integers(0, 256, (2, 64, 96, 3), np.uint8)
    for one, alone in zip(runtime(images), [runtime(image[None])[0] for image in images], strict=True):
        # ONNX Runtime may round otherwise in a batch, and a turned sign is seen in the maps.
        assert np.median(np.abs(one.heatmaps - alone.heatmaps)) < 1e-5


def test_merely_binarized_layers_are_torchs():
    torch.manual_seed(0)
    net = build("binary_paf", layers="binary7", **OPTIONS)
    enliven(net, torch.randn(2, 3, 64, 96))
    shake(net.stages)
    net.eval()
    image = torch.randint(0, 256, (1, 64, 96, 3), dtype=torch.uint8)
    with torch.no_grad():
        features = FloatPart(net)(image)
        heatmaps, pafs = net.stages[1](features)
    maps = refine(features.numpy(), pack_stages(net), Workers(1))
    expected = torch.cat([pafs, heatmaps], 1).numpy()
    assert np.abs(maps - expected).max() < 1e-5 * np.abs(expected).max()


def test_a_layer_takes_little_room(packed):
    tensors = load_file(packed[0])
    sizes = {name: tensors[name].nbytes for name in ("0.limbs.1.0.bits", "0.limbs.1.0.scale")}
    assert sizes == {"0.limbs.1.0.bits": 64 * 9 * 4 * 4, "0.limbs.1.0.scale": 64 * 4}


def test_predict_runs_it_without_torch(packed, tmp_path):
    code = (
        "import sys; from lithepose.cli import main;"
        f"code = main(['predict', {str(SAMPLES / 'astronaut.jpg')!r}, '--model', {str(packed[0])!r},"
        f" '--json', {str(tmp_path / 'poses.jsonl')!r}, '--threads', '2']);"
        "assert not {'torch', 'onnx'} & set(sys.modules), sorted(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "people" in json.loads((tmp_path / "poses.jsonl").read_text())


def test_half_the_front(packed, tmp_path):
    folder = packed[0].parent
    assert (
        main(
            [
                "export",
                str(folder / "weights.safetensors"),
                "--to",
                "bits",
                "--out",
                str(tmp_path / "h.safetensors"),
                "--half",
            ]
        )
        == 0
    )
    sizes = [p.stat().st_size for p in (tmp_path / "h-float.onnx", folder / "small-float.onnx")]
    assert sizes[0] < 0.55 * sizes[1]
    assert Predictor(tmp_path / "h.safetensors").size == 128


def test_wrong_files_are_told(packed, tmp_path, capsys):
    path = packed[0]
    copy = tmp_path / "copy.safetensors"
    shutil.copy(path, copy)
    image = str(SAMPLES / "astronaut.jpg")

    def says(*arguments: object) -> str:
        assert main([str(a) for a in arguments]) == 2
        return capsys.readouterr().err.replace("\n", " ")

    weights = path.with_name("weights.safetensors")
    assert "no such file; copy.safetensors needs it" in says("predict", image, "--model", copy)
    (tmp_path / "small-float.onnx").write_bytes(b"another")
    assert "belongs to another network" in says("predict", image, "--model", copy)
    assert "for binary_paf, a packed .safetensors with --to bits" in says("predict", image, "--model", weights)
    copy.write_bytes(b"no safetensors")
    assert "not a safetensors file" in says("predict", image, "--model", copy)
    assert "no such model file" in says("predict", image, "--model", tmp_path / "none.safetensors")
    save_arrays({}, copy, {"lithepose-packed": json.dumps({"format": 0})})
    assert "file format 0; expected 2" in says("predict", image, "--model", copy)
    assert "other than the weights" in says("export", weights, "--to", "bits", "--out", weights)
    assert "other than the weights" in says("export", weights, "--to", "bits", "--out", tmp_path / "x.onnx")
    assert "no such file" in says("export", tmp_path / "none.safetensors", "--to", "bits")
    assert "no such folder" in says("export", weights, "--to", "bits", "--out", tmp_path / "none" / "x.safetensors")
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"layers": "float"}, "no binary layers"),
        ({"stages": 1}, "one stage"),
        ({"input_scale": True}, "input_scale"),
    ],
)
def test_what_cannot_be_packed(options, words):
    with pytest.raises(ValueError, match=words):
        pack_stages(build("binary_paf", **OPTIONS | options).eval())


def test_centred_weights_are_packed_as_they_act():
    torch.manual_seed(0)
    module = shake(MultiScaleModule(128, 128, lambda a, b: binarized(a, b, centred=True)))
    assert any(isinstance(m, BinaryConv2d) and m.centred for m in module.modules())
    x = torch.randn(1, 128, 5, 6)
    packed = pack_module(module)
    out = packed(x.numpy().copy(), pack_activations(x.numpy(), packed.enter))
    with torch.no_grad():
        assert np.array_equal(out, module(x).numpy())


def test_damaged_files_are_told_before_the_kernels_read_them(packed, tmp_path):
    """Every tensor cut short by one along its first axis, or missing."""
    from safetensors import safe_open

    path = packed[0]
    with safe_open(path, "np") as file:
        said = file.metadata()
    tensors = load_file(path)
    shutil.copy(path.with_name("small-float.onnx"), tmp_path)
    bad = tmp_path / "bad.safetensors"

    def refused(tensors, said):
        save_arrays(tensors, bad, said)
        with pytest.raises(ValueError, match=r"bad\.safetensors: (damaged|not a packed)"):
            PackedRuntime(bad)

    for name in [name for name in tensors if name.startswith(("0.limbs.0.", "0.limbs.4.", "0.limbs.pointwise"))]:
        others = {k: v for k, v in tensors.items() if k != name}
        refused(others, said)
        refused(others | {name: tensors[name][:-1].copy()}, said)
        refused(others | {name: tensors[name].reshape(-1, 1)}, said)
        refused(others | {name: tensors[name].astype(np.float64)}, said)
    for missing in ("0.limbs.2.", "0.limbs.4.", "0.joints."):
        refused({k: v for k, v in tensors.items() if not k.startswith(missing)}, said)
    told = json.loads(said["lithepose-packed"])
    for changed in (
        {"chains": []},
        {"chains": [[5, 5], [5, 5]]},
        {"float_part": 3},
        {"float_part": "../x"},
        {"info": {}},
    ):
        refused(tensors, {"lithepose-packed": json.dumps(told | changed)})
    for key in told:
        refused(tensors, {"lithepose-packed": json.dumps({k: v for k, v in told.items() if k != key})})


def test_several_threads_may_use_one_runtime(packed):
    runtime = PackedRuntime(packed[0], 2)
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 96, 3), np.uint8)
    (expected,) = runtime(image)
    with ThreadPoolExecutor(4) as pool:
        for (maps,) in pool.map(lambda _: runtime(image), range(12)):
            # The real-valued part runs in ONNX Runtime, which may add in another order when its threads are busy.
            assert np.allclose(maps.heatmaps, expected.heatmaps, atol=1e-6)


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="no fork here, or none beside threads")
def test_a_forked_process_has_threads_of_its_own(packed):
    code = f"""
import os
import numpy as np
from lithepose.binary.runtime import PackedRuntime
from lithepose.binary.stages import refine
runtime = PackedRuntime({str(packed[0])!r}, 3)
x = np.random.default_rng(0).normal(size=(1, 185, 5, 6)).astype(np.float32)
expected = refine(x, runtime.stages, runtime._workers)
child = os.fork()
if not child:
    os._exit(not np.array_equal(refine(x, runtime.stages, runtime._workers), expected))
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=environment, check=True, timeout=120)


@pytest.mark.parametrize("missing", ["numba", "safetensors", "threadpoolctl"])
def test_what_is_missing_is_named(packed, missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from lithepose.cli import main; sys.exit(main({{}}))"
    for command in (["predict", str(SAMPLES / "astronaut.jpg"), "--model", str(packed[0])], ["benchmark", "--binary"]):
        done = subprocess.run(
            [sys.executable, "-c", code.format(command)], capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 2, done.stderr
        assert missing in done.stderr
        assert "pip install 'lithepose[" in done.stderr
