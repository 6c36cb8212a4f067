"""A binary_paf in bits: the front by ONNX Runtime, the refinement stages by the kernels of ``bits``; no torch.

The file that ``lithepose pack`` writes is safetensors: the signs of the weights, their scales, where the signs of the
activations turn, and the float 1x1 layers. What the paper leaves real-valued, front and first stage, is an ONNX file
beside it, named in its metadata.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

try:
    from safetensors import SafetensorError, safe_open
    from threadpoolctl import ThreadpoolController
except ImportError as error:
    raise ImportError(f"packed networks need {error.name}: pip install 'lithepose[binary]'") from error

from ..decode import TOP, Found, Maps
from . import kernel as machine
from .bits import ALONE, BinaryLayer, Call, Interval, Signs, Team, empty_bits, pack_activations, run, words
from .onnx import ModelInfo, open_session

FORMAT = 1  # of the file
Tensors = dict[str, np.ndarray]


def bands(x: np.ndarray, out: np.ndarray, first: int, last: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Rows ``first`` to ``last`` of two (N, H, W, C) maps, each picture's as one matrix (cells, C)."""
    for one, made in zip(x[:, first:last], out[:, first:last], strict=True):
        yield one.reshape(-1, x.shape[3]), made.reshape(-1, out.shape[3])


@dataclass(frozen=True)
class Skip:
    """The way around a module that changes the width: BatchNorm, ReLU and a float 1x1 convolution.

    Attributes:
        gain: (C,) float32, BatchNorm as one multiplication
        shift: (C,) float32, and one addition.
        weight: (C, T) float32.
    """

    gain: np.ndarray
    shift: np.ndarray
    weight: np.ndarray

    def __post_init__(self) -> None:
        if not self.gain.shape == self.shift.shape == self.weight.shape[:1] or self.weight.ndim != 2:
            raise ValueError(f"a way around of {self.gain.shape}, {self.shift.shape} and {self.weight.shape}")

    def __call__(self, x: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
        """Rows ``first`` to ``last`` of x (N, H, W, C or more) to out (N, H, W, T)."""
        hidden = np.empty((*x.shape[:3], len(self.gain)), np.float32)
        machine.rectify(x, self.gain, self.shift, hidden, first, last)
        for cells, made in bands(hidden, out, first, last):
            np.matmul(cells, self.weight, out=made)


@dataclass(frozen=True)
class Chain:
    """Binary layers in a row, whose signs never leave the bits.

    Either a multi-scale module, whose layers are all kept side by side and added to the input, or 7x7 layers of one
    width of which the last alone is kept.

    Attributes:
        enter: where the signs of the input are +; floats.
        layers: one after the other.
        between: where the signs of their sums are +, for all but the last; integers.
        joined: whether it is a module.
        skip: the module's way around; without one the input itself.

    Raises:
        ValueError: layers that do not fit one another, which the kernels would not notice.
    """

    enter: Interval
    layers: tuple[BinaryLayer, ...]
    between: tuple[Interval, ...]
    joined: bool
    skip: Skip | None = None

    def __post_init__(self) -> None:
        channels = [self.enter.channels(np.float32), *(interval.channels(np.int32) for interval in self.between)]
        if channels != [layer.channels for layer in self.layers] or len({layer.kernel for layer in self.layers}) > 1:
            raise ValueError(f"signs of {channels} channels before layers that read others")
        if channels[1:] != [layer.width for layer in self.layers[:-1]]:
            raise ValueError(f"signs of {channels[1:]} channels behind layers that write others")
        if not self.joined and len({layer.width for layer in self.layers}) > 1:
            raise ValueError("layers of several widths of which the last alone is kept")
        around = self.skip.weight.shape if self.skip else (channels[0], channels[0])
        if self.joined and around != (channels[0], self.width):
            raise ValueError(f"a way around from {around[0]} to {around[1]} channels beside {self.width}")

    @property
    def width(self) -> int:
        """Channels out."""
        return sum(layer.width for layer in self.layers) if self.joined else self.layers[-1].width

    @property
    def kernel(self) -> int:
        """Side of the filters."""
        return self.layers[0].kernel

    def calls(
        self, x: np.ndarray, bits: np.ndarray, after: Signs | None = None, team: Team = ALONE
    ) -> tuple[list[Call], np.ndarray]:
        """What is to be run for x; the way around is taken at once.

        Args:
            x: (N, H, W, C or more) float32. A module without a way around adds to it in place.
            bits: its signs, (N, H + 2b, W + 2b, words).
            after: signs of the result, for the next module.
            team: threads of the way around.

        Returns:
            the calls, and (N, H, W, width) float32 for the result; x itself, if that is added to.
        """
        shape, out = x.shape[:3], x
        if not self.joined or self.skip:
            out = np.empty((*shape, self.width), np.float32)
        if self.skip:
            skip = self.skip
            team.rows(x.shape[1], lambda first, last: skip(x, out, first, last))
        slot, calls = 0, list[Call]()
        for i, layer in enumerate(self.layers):
            inner = None
            if i < len(self.between):
                inner = Signs(self.between[i], empty_bits(*shape, channels=layer.width, kernel=self.kernel))
            calls.append(layer.call(bits, out, slot, inner, after, self.joined))
            slot += layer.width if self.joined else 0
            bits = inner.bits if inner else bits
        return calls, out

    def __call__(self, x: np.ndarray, bits: np.ndarray, after: Signs | None = None, team: Team = ALONE) -> np.ndarray:
        """Run; arguments as of :meth:`calls`, whose result it returns."""
        calls, out = self.calls(x, bits, after, team)
        run(calls, team)
        return out

    def tensors(self) -> Tensors:
        """By name, for the file."""
        out = {"enter.low": self.enter.low, "enter.high": self.enter.high}
        for i, layer in enumerate(self.layers):
            out |= {f"{i}.bits": layer.bits.astype("<u4"), f"{i}.scale": layer.scale}
        for i, interval in enumerate(self.between):
            out |= {f"{i}.low": interval.low, f"{i}.high": interval.high}
        if self.skip:
            out |= {"skip.gain": self.skip.gain, "skip.shift": self.skip.shift, "skip.weight": self.skip.weight}
        return out

    @classmethod
    def from_tensors(cls, tensors: Tensors, joined: bool) -> Chain:
        """The way back; a KeyError names what is missing."""
        count = sum(name.endswith(".bits") for name in tensors)
        channels, layers = len(tensors["enter.low"]), list[BinaryLayer]()
        for i in range(count):
            layers.append(BinaryLayer(tensors[f"{i}.bits"].astype(np.uint32), tensors[f"{i}.scale"], channels))
            channels = layers[-1].width
        skip = below(tensors, "skip.")
        return cls(
            Interval(tensors["enter.low"], tensors["enter.high"]),
            tuple(layers),
            tuple(Interval(tensors[f"{i}.low"], tensors[f"{i}.high"]) for i in range(count - 1)),
            joined,
            Skip(skip["gain"], skip["shift"], skip["weight"]) if skip else None,
        )


@dataclass(frozen=True)
class Branch:
    """One branch of a refinement stage: chains of binary layers, then two float 1x1 convolutions with a ReLU between.

    Attributes:
        chains: one after the other.
        pointwise: two of (weight (C, T), bias (T,)) float32.
    """

    chains: tuple[Chain, ...]
    pointwise: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __post_init__(self) -> None:
        if not self.chains:
            raise ValueError("a branch without layers")
        following = [len(chain.enter.low) for chain in self.chains[1:]]
        for chain, channels in zip(self.chains, [*following, len(self.pointwise[0][0])], strict=True):
            if chain.width != channels:
                raise ValueError(f"{chain.width} channels before layers that read {channels}")
        (weight, bias), (weight2, bias2) = self.pointwise
        if (*bias.shape, *bias2.shape) != (weight.shape[1], weight2.shape[1]) or len(weight2) != len(bias):
            raise ValueError(f"1x1 layers of {weight.shape} and {weight2.shape}")

    def __call__(self, x: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """(N, H, W, C) float32 -> (N, H, W, T) float32; C may be larger than the first chain's."""
        shape, height = x.shape[:3], x.shape[1]
        bits = pack_activations(x, self.chains[0].enter, self.chains[0].kernel, team)
        waiting: list[Call] = []
        for i, chain in enumerate(self.chains):
            after = None
            if i + 1 < len(self.chains):
                following = self.chains[i + 1]
                after = Signs(following.enter, empty_bits(*shape, channels=chain.width, kernel=following.kernel))
            if chain.skip:  # reads what is yet to be computed
                run(waiting, team)
                waiting = []
            calls, x = chain.calls(x, bits, after, team)
            waiting += calls
            bits = after.bits if after else bits
        run(waiting, team)
        (weight, bias), (weight2, bias2) = self.pointwise
        out = np.empty((*shape, len(bias2)), np.float32)

        def finish(first: int, last: int) -> None:
            for cells, made in bands(x, out, first, last):
                hidden = cells @ weight
                hidden += bias
                np.maximum(hidden, 0, out=hidden)
                np.matmul(hidden, weight2, out=made)
                made += bias2

        team.rows(height, finish)
        return out

    def tensors(self) -> Tensors:
        """By name, for the file."""
        out = {f"{i}.{name}": t for i, chain in enumerate(self.chains) for name, t in chain.tensors().items()}
        for i, (weight, bias) in enumerate(self.pointwise):
            out |= {f"pointwise.{i}.weight": weight, f"pointwise.{i}.bias": bias}
        return out

    @classmethod
    def from_tensors(cls, tensors: Tensors, joined: bool) -> Branch:
        """The way back; a KeyError names what is missing."""
        chains = []
        while mine := below(tensors, f"{len(chains)}."):
            chains.append(Chain.from_tensors(mine, joined))
        last = below(tensors, "pointwise.")
        return cls(tuple(chains), tuple((last[f"{i}.weight"], last[f"{i}.bias"]) for i in range(2)))


def below(tensors: Tensors, prefix: str) -> Tensors:
    """Those whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Stage:
    """A refinement stage: [fields, heatmaps, features] to fields and heatmaps."""

    limbs: Branch
    joints: Branch

    def tensors(self) -> Tensors:
        """By name, for the file."""
        branches = {"limbs": self.limbs, "joints": self.joints}
        return {f"{side}.{name}": t for side, branch in branches.items() for name, t in branch.tensors().items()}


class Workers:
    """Threads of one network: the two branches of a stage side by side, and the rows of each shared out."""

    def __init__(self, threads: int) -> None:
        self._aside = ThreadPoolExecutor(1) if threads > 1 else None
        self._teams = Team(max(1, (threads + 1) // 2)), Team(max(1, threads // 2))

    def run(self, stage: Stage, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fields and heatmaps (N, H, W, C) of a stage."""
        if self._aside is None:
            return stage.limbs(x), stage.joints(x)
        joints = self._aside.submit(stage.joints, x, self._teams[1])
        return stage.limbs(x, self._teams[0]), joints.result()


def refine(x: np.ndarray, stages: list[Stage], workers: Workers) -> np.ndarray:
    """What the first stage leaves -> the maps of the last.

    Args:
        x: (N, H, W, fields + heatmaps + features) float32.
        stages: those after the first.
        workers: threads.

    Returns:
        (N, H, W, fields + heatmaps) float32.
    """
    # Room for whole vectors, so that signs are taken sixteen at a time.
    padded = np.zeros((*x.shape[:3], 32 * words(x.shape[3])), np.float32)
    padded[..., : x.shape[3]] = x
    maps = 0
    for stage in stages:
        both = workers.run(stage, padded)
        maps = sum(part.shape[3] for part in both)
        np.concatenate(both, 3, out=padded[..., :maps])
    return padded[..., :maps]


class PackedRuntime:
    """A network that ``lithepose pack`` wrote; takes and gives what every runtime does.

    Args:
        path: of the ``.safetensors`` file; the front lies beside it.
        threads: 0 takes one a core.

    Raises:
        FileNotFoundError: no such file, or no front beside it.
        ValueError: no packed network, or another's front.
    """

    def __init__(self, path: str | Path, threads: int = 0) -> None:
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such model file; `lithepose models` lists the embedded ones")
        try:
            with safe_open(path, "np") as file:
                said = json.loads((file.metadata() or {})["lithepose-packed"])
                tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if said["format"] != FORMAT:
                raise ValueError(f"form {said['format']} instead of {FORMAT}")
            self.info = ModelInfo.from_json(json.dumps(said["info"]))
            sides = [[below(tensors, f"{i}.{side}.") for side in ("limbs", "joints")] for i in range(said["stages"])]
            self.stages = [Stage(*(Branch.from_tensors(side, said["joined"]) for side in both)) for both in sides]
        except SafetensorError as error:
            raise ValueError(f"{path}: not a safetensors file ({error})") from error
        except (ValueError, TypeError) as error:
            raise ValueError(f"{path}: damaged, or packed by another version ({error}); pack it anew") from error
        except KeyError as error:
            raise ValueError(
                f"{path}: no packed network ({error} is missing); `lithepose pack` makes one of a trained binary_paf,"
                " `lithepose export` an .onnx of any"
            ) from error
        front = path.with_name(said["front"])
        if not front.is_file():
            raise FileNotFoundError(f"{front}: no such file; {path.name} needs it beside it")
        if hashlib.sha256(front.read_bytes()).hexdigest() != said["sha256"]:
            raise ValueError(f"{front}: of another network than {path.name}; keep the two that were packed together")
        self.session = open_session(front, threads)
        self._workers = Workers(threads or os.cpu_count() or 1)
        self._blas = ThreadpoolController()

    def __call__(self, images: np.ndarray) -> list[Maps | Found]:
        """Run a batch.

        Args:
            images: (N, H, W, 3) uint8 RGB, H and W multiples of ``info.multiple``.

        Raises:
            ValueError: a size that the network does not take.
        """
        try:
            (x,) = self.session.run(["stage"], {"image": images})
        except Exception as error:  # ONNX Runtime raises a dozen types of its own
            line = str(error).splitlines()[0]
            raise ValueError(f"{self.info.name}: ONNX Runtime cannot run it at {images.shape[1:3]} ({line})") from error
        with self._blas.limit(limits=1, user_api="blas"):  # the branches are threads already
            maps = refine(np.asarray(x), self.stages, self._workers)
        maps = np.ascontiguousarray(maps.transpose(0, 3, 1, 2))
        fields, joints = 2 * len(self.info.head.limbs), len(self.info.head.skeleton)
        top = min(TOP, maps.shape[2] * maps.shape[3])
        return [Maps.from_arrays(one[fields : fields + joints], one[:fields], top) for one in maps]
