from __future__ import annotations

import itertools
import os
import platform
import subprocess
import sys
from functools import partial

import numpy as np
import pytest

torch = pytest.importorskip("torch")
for needed in ("numba", "onnx", "onnxscript", "safetensors", "threadpoolctl"):
    pytest.importorskip(needed)

from lithepose.binary import cells, kernel, peak
from lithepose.binary.bits import BinaryLayer, pack_bits
from lithepose.binary.bits import run as run_calls
from lithepose.binary.pack import pack_module
from lithepose.binary.planes import Interval, Planes, Signs, Team, empty_map, pack_activations
from lithepose.binary.torch_layers import BACKENDS, PackedConv2d, pack_layers
from lithepose.networks.binary_paf import BinaryConv2d, MultiScaleModule, binarized

SIDES = (1, 2, 3, 17, 46)
CHANNELS = (1, 31, 32, 33, 64, 185)


def packed(layer):
    return BinaryLayer.from_weights(*(t.detach().numpy() for t in (layer.weight, layer.weight.abs().mean((1, 2, 3)))))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("c_in", CHANNELS)
def test_every_backend_is_the_float_convolution(backend, c_in):
    """Every size and border, one image and two: the same bits as the layer that was trained."""
    torch.manual_seed(c_in)
    layer = BinaryConv2d(c_in, CHANNELS[-1 - CHANNELS.index(c_in)])
    fast = PackedConv2d(layer, backend)
    for height, width, batch in itertools.product(SIDES, SIDES, (1, 2)):
        x = torch.randn(batch, c_in, height, width)
        with torch.no_grad():
            assert torch.equal(fast(x), layer(x)), (height, width, batch)


@pytest.mark.parametrize("kernel", [1, 3, 7])
@pytest.mark.parametrize("c_out", [1, 5, 64])
@pytest.mark.parametrize("threads", [1, 3])
def test_every_form_of_the_kernel(kernel, c_out, threads):
    torch.manual_seed(kernel * c_out)
    layer, team = BinaryConv2d(40, c_out, kernel), Team(threads)
    for height, width in ((1, 1), (2, 9), (5, 4), (17, 46)):
        x = torch.randn(2, 40, height, width)
        signs = pack_activations(x.numpy(), kernel=kernel, team=team)
        with torch.no_grad():
            expected = layer(x)
        assert torch.equal(torch.from_numpy(packed(layer)(signs, team).copy()), expected), (height, width)


CHILD = """
import sys
import numpy as np
from lithepose.binary import kernel
from lithepose.binary.bits import BinaryLayer
from lithepose.binary.planes import Signs, pack_activations
from lithepose.binary.stages import Chain, below

given = np.load(sys.argv[1])
made = {}
chain = Chain.from_tensors(below(dict(given), "chain."), joined=True)
after = Signs.of(chain.enter, given["module.x"].shape)
made["module"] = chain(given["module.x"], pack_activations(given["module.x"], chain.enter), after)
made["signs"] = after.planes.positive()
for name in {n.split(".")[0] for n in given if n.startswith("case")}:
    x, weight, scale = (given[f"{name}.{part}"] for part in ("x", "weight", "scale"))
    layer = BinaryLayer.from_weights(weight, scale)
    made[name] = layer(pack_activations(x, kernel=layer.kernel))
np.savez(sys.argv[2], **made)
print(kernel.WIDTH, "zmm" in next(iter(kernel.run.inspect_asm().values())), "torch" in sys.modules)
kept = [f.stats for f in (kernel.convolve, kernel.run)]
print(*(sum(len(counts) for counts in some) for some in ([s.cache_hits for s in kept], [s.cache_misses for s in kept])))
"""


@pytest.fixture(scope="module")
def cases(tmp_path_factory):
    """Inputs and expected outputs for other processes, in one file."""
    torch.manual_seed(0)
    given, expected = {}, {}
    shapes = list(itertools.product((1, 33, 185), (1, 64), (3,), ((1, 1), (3, 46), (17, 2))))
    for i, (c_in, c_out, size, sides) in enumerate([*shapes, (64, 32, 1, (5, 9)), (700, 16, 7, (9, 9))]):
        layer, x = BinaryConv2d(c_in, c_out, size), torch.randn(1 + i % 2, c_in, *sides)
        with torch.no_grad():
            expected[f"case{i}"] = layer(x).numpy()
            scale = layer.weight.abs().mean((1, 2, 3))
            parts = {"x": x, "weight": layer.weight, "scale": scale}
        given |= {f"case{i}.{name}": t.detach().numpy() for name, t in parts.items()}
    path = tmp_path_factory.mktemp("bits") / "given.npz"
    module = MultiScaleModule(128, 128, binarized).eval()
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.weight.data.normal_()
        norm.running_mean.normal_()
    x = torch.randn(2, 128, 5, 21)
    with torch.no_grad():
        expected["module"] = module(x).numpy()
    chain = pack_module(module)
    given |= {f"chain.{name}": tensor for name, tensor in chain.tensors().items()}
    given["module.x"] = x.numpy()
    expected["signs"] = pack_activations(expected["module"], chain.enter).positive()
    np.savez(path, **given)
    return path, expected


def run(cases, cache, *forced):
    path, expected = cases
    out = cache / "made.npz"
    names = dict(zip(("NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"), forced, strict=False))
    environment = os.environ | {"NUMBA_CACHE_DIR": str(cache)} | names
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), str(out)], env=environment, capture_output=True, text=True, check=True
    )
    made = np.load(out)
    assert set(made) == set(expected)
    for name, values in expected.items():
        assert np.array_equal(made[name], values), name
    form, loaded = done.stdout.splitlines()
    return form.split(), [int(n) for n in loaded.split()]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names of x86 processors")
@pytest.mark.parametrize(
    ("name", "features", "needs", "form"),
    [
        ("generic", "", "", ["128", "False"]),
        ("haswell", "+avx2,+popcnt", "avx2", ["256", "False"]),
        ("skylake-avx512", "", "avx512bw", ["512", "True"]),
        ("icelake-server", "", "avx512vpopcntdq", ["512", "True"]),
    ],
)
def test_other_processors_give_the_same_bits(cases, tmp_path, name, features, needs, form):
    """Machine code for older processors, run on this one; 512-bit registers only where they exist."""
    from llvmlite.binding import get_host_cpu_features

    if needs and not get_host_cpu_features().get(needs):
        pytest.skip(f"this processor lacks {needs}")
    got, _ = run(cases, tmp_path, name, features)
    assert got[: len(form)] == form
    assert got[2] == "False"  # no torch


def test_what_is_compiled_is_kept():
    """All files name the right sums of those that they are made of; see ``vectors.compiled``."""
    for function in (cells.pack, cells.rectify, kernel.convolve, kernel.run, peak.burst):
        assert function.stats.cache_path, f"{function.__name__}: write the new sum_of where its file says compiled(...)"


def test_a_second_process_compiles_nothing(cases, tmp_path):
    assert run(cases, tmp_path)[1] == [0, 2]  # one layer, and the three of a module
    assert run(cases, tmp_path)[1] == [2, 0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_zeros_and_what_is_no_number(backend):
    """0, -0 and inf give +; NaN and -inf give -, in training as in every packed form."""
    x = torch.tensor([0.0, -0.0, 1e-40, -1e-40, torch.nan, torch.inf, -torch.inf]).view(1, 7, 1, 1)
    signs = pack_activations(x.numpy())
    assert signs.positive().ravel().tolist() == [True, True, True, False, False, True, False]
    assert signs.words.sum() == 4  # one bit each, and nothing beside them
    layer = BinaryConv2d(7, 5)
    with torch.no_grad():
        layer.weight[0, :, 1, 1] = x.flatten()
        layer.weight[1] = -0.0
        # NaN spoils the scale of its filter, as it must, and no other's.
        got, expected = PackedConv2d(layer, backend)(x), layer(x)
    assert got[0, 0].isnan().all()
    assert torch.equal(got[:, 1:], expected[:, 1:])


def ones(planes):
    return np.unpackbits(planes.words.view(np.uint8)).sum()


def test_intervals_decide_signs():
    x = np.linspace(-2, 2, 20 * 3 * 5, dtype=np.float32).reshape(1, 20, 3, 5)
    low, high = np.float32([-1, -np.inf, np.inf] * 6), np.float32([np.inf, 0.5, -np.inf] * 6)
    signs = pack_activations(x, Interval(low, high))
    some = x[:, :18]  # two channels are left out
    expected = (some >= low[:, None, None]) & (some <= high[:, None, None])
    assert np.array_equal(signs.positive(), expected)
    assert ones(signs) == expected.sum()  # nothing beside them


@pytest.mark.parametrize(
    ("channels", "kernel", "size"),
    [
        (33, 3, (1, 1)),
        (33, 3, (3, 46)),
        (33, 3, (16, 32)),
        (128, 3, (46, 46)),
        (9, 7, (9, 20)),
        (700, 7, (2, 9)),
        (2, 1, (5, 4)),
    ],
)
def test_sums_decide_signs(channels, kernel, size):
    """Of one sum by intervals of every kind, and of what is written to a map with gaps; without bits beside them."""
    torch.manual_seed(0)
    layer = BinaryConv2d(channels, 6, kernel)
    x = torch.randn(2, channels, *size)
    with torch.no_grad():
        whole = layer(x)
        sums = torch.round(whole / layer.weight.abs().mean((1, 2, 3))[:, None, None]).numpy()
    far = np.iinfo(np.int32)
    low = np.int32([-3, far.min, 1, far.min, far.max, -200])
    high = np.int32([far.max, 4, far.max, far.max, far.min, far.max])
    shape = (2, 6, *size)
    inner, outer = Signs.of(Interval(low, high), shape, kernel), Signs.of(Interval.sign(6), shape, kernel)
    out = empty_map(shape)
    out[:] = 0.25
    call = packed(layer).call(pack_activations(x.numpy(), kernel=kernel), out, 0, inner, outer)
    run_calls([call])
    assert np.array_equal(out, whole.numpy() + np.float32(0.25))
    expected = (sums >= low[:, None, None]) & (sums <= high[:, None, None])
    assert np.array_equal(inner.planes.positive(), expected)
    assert np.array_equal(outer.planes.positive(), out >= 0)
    for signs in (inner.planes, outer.planes):
        assert ones(signs) == signs.positive().sum()


def test_packing_is_the_same_on_every_machine():
    positive = np.zeros((2, 70), bool)
    positive[0, [0, 33, 69]] = True
    assert pack_bits(positive).tolist() == [[1, 2, 32], [0, 0, 0]]
    layer = BinaryLayer.from_weights(np.random.default_rng(0).normal(size=(128, 128, 3, 3)), np.ones(128))
    assert layer.bits.nbytes + layer.scale.nbytes <= 20_000


def zeros(*shape, kind=np.uint32):
    return np.zeros(shape, kind)


room = partial(zeros, kind=np.float32)


def some(channels=32, size=(2, 2), kernel=3):
    return Planes.empty((1, channels, *size), channels, kernel)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda layer: layer(some(3)), "32 channels"),
        (lambda layer: layer(some(kernel=1)), "the filters are 3x3"),
        (lambda layer: layer.call(some(), room(1, 16, 3, 2)), r"\(1, 32, 3, 2\)"),
        (lambda layer: layer.call(some(), room(1, 16, 2, 2, kind=float)), "float64"),
        (lambda layer: layer.call(some(), room(1, 16, 2, 4)[..., ::2]), "contiguous"),
        (lambda layer: layer.call(some(), room(1, 32, 2, 2)[:, ::-1]), "contiguous"),
        (lambda layer: layer.call(some(), room(1, 3, 2, 2)), "from channel 0 on do not fit into 3 "),
        (lambda layer: layer.call(some(), room(1, 32, 2, 2), 17), "from channel 17 on do not fit into 32 "),
        (lambda layer: layer.call(some(), room(1, 32, 2, 2), -1), "from channel -1 on"),
        (
            lambda layer: layer.call(some(), room(1, 32, 2, 2), 0, None, Signs.of(Interval.sign(16), (1, 16, 2, 2))),
            "16 channels; expected 32",
        ),
        (
            lambda layer: layer.call(some(), room(1, 32, 2, 2), 0, None, Signs(Interval.sign(32), some(size=(1, 1)))),
            "1x1 cells",
        ),
        (
            lambda layer: layer.call(some(), room(1, 32, 2, 2), 0, None, Signs(Interval.sign(32), some(16))),
            "32 channels",
        ),
        (
            lambda layer: layer.call(Planes(zeros(1, 32, some().words.shape[2]), 2, 2, 3), room(1, 16, 2, 2)),
            "uint32",
        ),
        (lambda layer: layer.call(Planes(some().words[..., 1:].copy(), 2, 2, 3), room(1, 16, 2, 2)), "Planes.empty"),
        (
            lambda layer: layer.call(
                some(), room(1, 16, 2, 2), outer=Signs.of(Interval.sign(16), (1, 16, 2, 2)), joined=False
            ),
            "outer signs need joined=True",
        ),
        (
            lambda layer: layer.call(
                some(), room(1, 16, 2, 2), 0, Signs.of(Interval(*np.int32([[-4] * 16, [4] * 16])), (1, 16, 2, 2))
            ),
            "two finite ends",
        ),
        (lambda layer: pack_activations(np.zeros((4, 4, 3))), r"\(4, 4, 3\)"),
        (lambda layer: pack_activations(np.zeros((1, 3, 4, 4)), Interval.sign(4)), "one channel per sign"),
        (lambda layer: pack_activations(np.zeros((1, 1, 4, 4)), Interval(np.zeros(1), np.ones(1))), "float64"),
        (lambda layer: pack_activations(np.zeros((1, 1, 4, 4)), Interval(*np.float32([[0], [1]]))), "two finite ends"),
        (lambda layer: PackedConv2d(BinaryConv2d(3, 3, input_scale=True)), "input_scale"),
        (lambda layer: PackedConv2d(BinaryConv2d(3, 3), "fast"), "bits, integers, floats"),
        (lambda layer: PackedConv2d(BinaryConv2d(33, 3), "bits")(torch.zeros(1, 40, 2, 2)), "expects 33"),
        (lambda layer: BinaryLayer(zeros(3, 3, 1, 1), zeros(3, kind=np.float32), 3), r"\(3, 3, 1, 1\)"),
        (lambda layer: BinaryLayer(zeros(3, 3, 3, 1), zeros(3), 3), "uint32 and float32"),
    ],
)
def test_what_does_not_fit_is_refused(call, says):
    """Above all where the kernels would read or write beside an array."""
    layer = BinaryLayer.from_weights(np.ones((16, 32, 3, 3)), np.ones(16))
    with pytest.raises(ValueError, match=says):
        call(layer)


def test_empty_maps_give_empty_maps():
    layer, team = BinaryLayer.from_weights(np.ones((3, 40, 3, 3)), np.ones(3)), Team(2)
    for backend in BACKENDS:
        assert PackedConv2d(BinaryConv2d(5, 3), backend)(torch.zeros(0, 5, 4, 4)).shape == (0, 3, 4, 4)
    assert layer(pack_activations(np.zeros((0, 40, 4, 4)), team=team), team).shape == (0, 3, 4, 4)


def test_the_operator_is_one_that_torch_can_trace():
    layer = PackedConv2d(BinaryConv2d(33, 8), "bits")
    x = torch.randn(1, 33, 5, 6)
    torch.library.opcheck(torch.ops.lithepose.binary_conv2d.default, (x, layer.bits, layer.scale, 33))
    program = torch.export.export(torch.nn.Sequential(layer), (x,))
    assert torch.equal(program.module()(x), layer(x))


def test_changed_weights_are_packed_anew():
    one, other = (PackedConv2d(BinaryConv2d(8, 8), "bits") for _ in range(2))
    x = torch.randn(1, 8, 5, 6)
    before, expected = one(x), other(x)
    one.load_state_dict(other.state_dict())
    assert not torch.equal(before, expected)
    assert torch.equal(one(x), expected)
    one.scale = one.scale * 2
    assert torch.equal(one(x), expected * 2)
    one.scale.mul_(2)
    assert torch.equal(one(x), expected * 4)


def test_packed_layers_go_where_modules_go():
    """Other orders of memory and types, and inference mode."""
    net, x = torch.nn.Sequential(BinaryConv2d(70, 20)), torch.randn(1, 70, 5, 6)
    with torch.no_grad():
        expected = net(x)
        for backend in BACKENDS:
            fast = pack_layers(net, backend).to(memory_format=torch.channels_last)
            assert torch.equal(fast(x.to(memory_format=torch.channels_last)), expected)
            assert torch.equal(fast.double()(x.double()).float(), expected)
            assert torch.allclose(fast.bfloat16()(x), expected, rtol=1e-2)
    with torch.inference_mode():
        assert torch.equal(pack_layers(net, "bits")(x), expected)


def test_a_network_with_packed_layers_is_the_same():
    twice = BinaryConv2d(20, 20)
    net = torch.nn.Sequential(
        BinaryConv2d(3, 20), torch.nn.BatchNorm2d(20), twice, torch.nn.BatchNorm2d(20), twice
    ).eval()
    net.append(BinaryConv2d(20, 4, centred=True))
    x = torch.randn(2, 3, 9, 7)
    for backend in BACKENDS:
        fast = pack_layers(net, backend)
        assert not any(isinstance(m, BinaryConv2d) for m in fast.modules())
        with torch.no_grad():
            assert torch.equal(fast(x), net(x))
        assert isinstance(pack_layers(twice), PackedConv2d)
