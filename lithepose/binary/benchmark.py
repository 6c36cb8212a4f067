"""Benchmarks of binary convolution and its alternatives: single layers, modules and whole networks."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..exporters.onnx import trace
from ..networks import build
from ..networks.binary_paf import BinaryConv2d, BinaryPaf, MultiScaleModule, binarized, preactivated
from ..runtime.onnx import open_session
from ..runtime.torch import exported
from ..timing import Row, Times, median, ratio, take_turns
from . import peak, tiling, vectors
from .pack import FloatPart, binary_layer, pack_module, pack_stages
from .planes import ALONE, Signs, Team, empty_map, flat, pack_activations
from .runtime import one_thread
from .stages import Branch, Stage, Workers, refine

SIZES = (46, 46), (46, 54), (46, 82)
NETWORK_SIZES = (368, 368), (368, 656)
BURSTS = 20_000
LEAST = 3.0  # shortest time of a turn, in milliseconds


def about() -> str:
    """Describe what the results depend on: the instructions that torch and the kernels use, and versions."""
    import numba
    import onnxruntime

    limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "all")
    forced = os.environ.get("NUMBA_CPU_NAME", "this processor")
    form = f"vectors of {vectors.WIDTH} bits"
    return (
        f"torch {torch.__version__} ({torch.backends.cpu.get_cpu_capability()}, oneDNN {limit}), numba"
        f" {numba.__version__} ({forced}, {form}), onnxruntime {onnxruntime.__version__}"
    )


@contextmanager
def torch_threads(threads: int):  # noqa: ANN201
    """Set the number of threads and inference mode inside the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def burst(counting: bool) -> Callable[[], object]:
    """Peak rate of the processor, in registers only: sums of three vectors; or xor, count and add."""
    data = np.random.default_rng(0).integers(0, 2**64, (peak.BURST + 1) * vectors.STEP, np.uint64)
    out = np.empty(vectors.STEP, np.uint64)
    return lambda: peak.burst(counting, BURSTS, data, out)


def channels_last(module: nn.Module | Tensor) -> Any:
    """Use the memory format that oneDNN reads without copying."""
    return module.to(memory_format=torch.channels_last)


def int8(x: Tensor, c_out: int) -> dict[str, Callable[[], object]]:
    """oneDNN's 3x3 convolution of unsigned and signed 8-bit integers, with 8-bit output, if available."""
    weight = torch.randint(-127, 128, (c_out, x.shape[1], 3, 3), dtype=torch.int8)
    scale, zero = torch.full((c_out,), 0.01), torch.zeros(c_out, dtype=torch.int32)
    pixels = channels_last(torch.randint(0, 256, x.shape, dtype=torch.uint8))
    pair = [1, 1]
    try:
        packed = torch.ops.onednn.qconv_prepack(weight, scale, 0.02, 0, pair, pair, pair, 1, list(x.shape))
        rest = (packed, scale, zero, None, pair, pair, pair, 1, 0.5, 0, torch.uint8, "none", [], "")
        torch.ops.onednn.qconv2d_pointwise(pixels, 0.02, 0, *rest)
    except (AttributeError, RuntimeError, NotImplementedError):  # torch was built without oneDNN
        return {}
    return {"int8 3x3": lambda: torch.ops.onednn.qconv2d_pointwise(pixels, 0.02, 0, *rest)}


def layers(channels: int, height: int, width: int, rounds: int) -> list[Row]:
    """Measure one binary 3x3 layer on one thread."""
    with torch_threads(1):
        x = channels_last(torch.randn(1, channels, height, width))
        maps = x.contiguous().numpy()
        layer, signs = binary_layer(BinaryConv2d(channels, channels)), pack_activations(maps)
        usual = layer.tiled(tiling.USUAL)
        three, seven = (channels_last(nn.Conv2d(channels, channels, k, padding=k // 2)) for k in (3, 7))
        half, x_half = channels_last(nn.Conv2d(channels, channels, 3, padding=1)).bfloat16(), x.bfloat16()
        module = channels_last(MultiScaleModule(channels, channels, preactivated)).eval()
        parts: dict[str, Callable[[], object]] = {
            "binary": lambda: layer(signs),
            f"binary, tiling {tiling.USUAL}": lambda: usual(signs),
            "packing": lambda: pack_activations(maps),
            "fp32 3x3": lambda: three(x),
            "bf16 3x3": lambda: half(x_half),
            **int8(x, channels),
            "fp32 7x7": lambda: seven(x),
            "fp32 multi-scale": lambda: module(x),
            "peak": burst(False),
            "counting peak": burst(True),
        }
        times = take_turns(parts, rounds, LEAST)
    operations, vector = 2 * 9 * channels**2 * height * width, vectors.WIDTH * peak.BURST * BURSTS
    # A sum of three vectors adds two taps per cell, of two operations each; counting adds one.
    most = {"peak": 4 * vector, "counting peak": 2 * vector}
    spent = {name: times[name] for name in parts if name not in most}
    rows = rows_of("layer", f"{channels}x{height}x{width}", 1, spent)
    rows[0] |= {"tops": f"{operations / median(times, 'binary') / 1e9:.2f}", "tiling": layer.block}
    for name, done in most.items():
        rows[0] |= {
            name.replace(" ", "_") + "_tops": f"{done / median(times, name) / 1e9:.2f}",
            "share" if name == "peak" else "counting_share": f"{ratio(times, name, 'binary') * operations / done:.2f}",
        }
    return rows


def modules(height: int, width: int, rounds: int) -> list[Row]:
    """Measure a fused multi-scale module of 128 channels on one thread, including the signs for the next module."""
    with torch_threads(1):
        x = channels_last(torch.randn(1, 128, height, width))
        maps = empty_map(tuple(x.shape))  # the module adds to it
        x_maps = x.contiguous().numpy()
        maps[:] = x_maps
        chain = pack_module(MultiScaleModule(128, 128, binarized).eval())
        signs, after = pack_activations(maps, chain.enter), Signs.of(chain.enter, maps.shape)
        float_module = channels_last(MultiScaleModule(128, 128, preactivated)).eval()
        seven = channels_last(nn.Conv2d(128, 128, 7, padding=3))
        parts: dict[str, Callable[[], object]] = {
            "binary": lambda: chain(maps, signs, after),
            "binary, its input packed first": lambda: chain(maps, pack_activations(x_maps, chain.enter), after),
            "fp32 multi-scale": lambda: float_module(x),
            "fp32 7x7": lambda: seven(x),
        }
        return rows_of("module", f"128x{height}x{width}", 1, take_turns(parts, rounds, LEAST))


def without_bits(stage: Stage) -> Stage:
    """Return only the stage's float work, for Amdahl's bound."""

    def empty(branch: Branch) -> Branch:
        return _Bare(branch.chains, branch.pointwise)

    return Stage(empty(stage.limbs), empty(stage.joints))


class _Bare(Branch):
    """A branch without binary layers and signs."""

    def __call__(self, x: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """Run the shortcut and the 1x1 layers."""
        chain = self.chains[0]
        out, skip = empty_map((len(x), chain.width, *x.shape[2:])), chain.skip
        if skip:
            given, made = flat(x), flat(out)
            team.share(x.shape[2] * x.shape[3], lambda first, last: skip(given, made, first, last))
        return self.finish(out, team)


def networks(backbone: str, threads: int, rounds: int, sizes: Sequence[tuple[int, int]] = NETWORK_SIZES) -> list[Row]:
    """Measure OpenPose with 7x7 layers, float modules and bits; random weights; ONNX Runtime for all float parts."""
    rows, workers = list[Row](), Workers(threads)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")

        def session(net: nn.Module, names: Any, file: str) -> Any:
            trace(net.eval(), names, 8, Path(folder) / file)
            return open_session(Path(folder) / file, threads)

        seven = exported(build("openpose", backbone=backbone))
        module = exported(build("binary_paf", backbone=backbone, layers="float"))
        net = build("binary_paf", backbone=backbone).eval()
        assert isinstance(net, BinaryPaf)
        full = session(seven, seven.names, "seven.onnx"), session(module, module.names, "float.onnx")
        beginning, stages = session(FloatPart(net), ["stage"], "float.onnx"), pack_stages(net)
        empty = [without_bits(stage) for stage in stages]

        def packed(image: np.ndarray, stages: list[Stage]) -> None:
            (x,) = beginning.run(["stage"], {"image": image})
            refine(np.asarray(x), stages, workers)

        for height, width in sizes:
            image = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), np.uint8)
            parts: dict[str, Callable[[], object]] = {
                "binary": lambda image=image: packed(image, stages),
                "binary, bits for nothing": lambda image=image: packed(image, empty),
                "float part alone": lambda image=image: beginning.run(["stage"], {"image": image}),
                "float multi-scale": lambda image=image: full[1].run(None, {"image": image}),
                "float 7x7": lambda image=image: full[0].run(None, {"image": image}),
            }
            with one_thread:
                times = take_turns(parts, rounds)
            network_rows = rows_of(f"network, {backbone}", f"{height}x{width}", threads, times)
            network_rows[0]["bound"] = f"{ratio(times, 'float 7x7', 'binary, bits for nothing'):.1f}"
            rows += network_rows
    return rows


def rows_of(table: str, shape: str, threads: int, times: Times) -> list[Row]:
    """Return one row per variant; ``ratio`` is its time relative to the binary one."""
    return [
        {
            "table": table,
            "shape": shape,
            "threads": threads,
            "form": form,
            "ms": f"{median(times, form):.3f}",
            "ratio": f"{ratio(times, form, 'binary'):.2f}",
        }
        for form in times
    ]


FIRST_CALL = """
import time
import numpy as np
from lithepose.binary.bits import BinaryLayer
from lithepose.binary.planes import pack_activations
layer = BinaryLayer.from_weights(np.ones((128, 128, 3, 3)), np.ones(128))
x = np.ones((1, 128, 46, 46), np.float32)
began = time.perf_counter()
layer(pack_activations(x))
print(time.perf_counter() - began)
"""


def start(rounds: int) -> list[Row]:
    """Measure the first packing and layer in a new process, with kernels that are already compiled."""

    def once() -> float:
        done = subprocess.run([sys.executable, "-c", FIRST_CALL], capture_output=True, text=True, check=True)
        return float(done.stdout) * 1000

    once()  # compiles the kernels if necessary
    return rows_of("start", "128x46x46", 1, {"binary": [once() for _ in range(rounds)]})


COLUMNS = (
    *("table", "shape", "threads", "form", "ms", "ratio"),
    *("tiling", "tops", "peak_tops", "share", "counting_peak_tops", "counting_share", "bound"),
)


def tables(threads: int, rounds: int, what: str = "all"):  # noqa: ANN201
    """Yield the rows of all tables.

    Args:
        threads: threads of whole networks; layers and modules run on one.
        rounds: number of rounds, for medians; whole networks run a quarter of them.
        what: layers, networks or all.
    """
    if what in ("all", "layers"):
        for channels in (64, 128, 256):
            for height, width in SIZES:
                yield from layers(channels, height, width, rounds)
        for height, width in SIZES:
            yield from modules(height, width, rounds)
        yield from start(5)
    if what in ("all", "networks"):
        for backbone in ("mobilenet_v1", "vgg19"):
            yield from networks(backbone, threads, max(5, rounds // 4))
