"""Refinement stages of binary layers: chains that stay bits inside, float 1x1 layers between them; numpy and numba."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import ModelError
from . import cells as machine
from .bits import BinaryLayer, Call, run
from .planes import ALONE, Interval, Planes, Signs, Team, empty_map, flat, pack_activations

Tensors = dict[str, np.ndarray]


@dataclass(frozen=True)
class Skip:
    """The shortcut of a module that changes the width: BatchNorm, ReLU and a float 1x1 convolution.

    Attributes:
        gain: (C,) float32, BatchNorm as one multiplication
        shift: (C,) float32, and one addition.
        weight: (T, C) float32.
    """

    gain: np.ndarray
    shift: np.ndarray
    weight: np.ndarray

    def __post_init__(self) -> None:
        if not self.gain.shape == self.shift.shape == self.weight.shape[1:]:
            raise ModelError(f"a shortcut of {self.gain.shape}, {self.shift.shape} and {self.weight.shape}")
        floats(self.gain, self.shift, self.weight)

    def __call__(self, x: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
        """Cells ``first`` to ``last`` of x (N, C or more, cells) to out (N, T, cells)."""
        hidden = np.empty((len(x), len(self.gain), last - first), np.float32)
        machine.rectify(x, self.gain, self.shift, hidden, first)
        np.matmul(self.weight, hidden, out=out[:, :, first:last])


@dataclass(frozen=True)
class Chain:
    """Binary layers in a row; their signs never leave the bits.

    Either a multi-scale module, with all layers concatenated and added to the input, or 7x7 layers of one
    width of which the last alone is kept.

    Attributes:
        enter: where the signs of the input are +; floats.
        layers: one after the other.
        between: where the signs of their sums are +, for all but the last; integers.
        joined: whether it is a module.
        skip: the module's shortcut; without one the input itself.

    Raises:
        ModelError: layers that do not fit one another, which the kernels would not notice.
    """

    enter: Interval
    layers: tuple[BinaryLayer, ...]
    between: tuple[Interval, ...]
    joined: bool
    skip: Skip | None = None

    def __post_init__(self) -> None:
        channels = [self.enter.channels(np.float32), *(interval.channels(np.int32) for interval in self.between)]
        if channels != [layer.channels for layer in self.layers] or len({layer.kernel for layer in self.layers}) > 1:
            raise ModelError(f"signs of {channels} channels before layers that read others")
        if channels[1:] != [layer.width for layer in self.layers[:-1]]:
            raise ModelError(f"signs of {channels[1:]} channels behind layers that write others")
        _ = self.enter.encoded  # refuses ends that BatchNorm does not give
        for layer, interval in zip(self.layers, self.between, strict=False):
            layer.limits(interval)
        if not self.joined and len({layer.width for layer in self.layers}) > 1:
            raise ModelError("layers of several widths of which the last alone is kept")
        around = self.skip.weight.shape[::-1] if self.skip else (channels[0], channels[0])
        if self.joined and around != (channels[0], self.width):
            raise ModelError(f"a shortcut from {around[0]} to {around[1]} channels beside {self.width}")

    @property
    def width(self) -> int:
        """Channels out."""
        return sum(layer.width for layer in self.layers) if self.joined else self.layers[-1].width

    @property
    def kernel(self) -> int:
        """Side of the filters."""
        return self.layers[0].kernel

    def calls(
        self, x: np.ndarray, signs: Planes, after: Signs | None = None, team: Team = ALONE
    ) -> tuple[list[Call], np.ndarray]:
        """What is to be run for x; the shortcut is taken at once.

        Args:
            x: (N, C or more, H, W) float32. A module without a shortcut adds to it in place.
            signs: its signs.
            after: signs of the result, for the next module.
            team: threads of the shortcut.

        Returns:
            the calls, and (N, width, H, W) float32 for the result; x itself, if that is added to.
        """
        shape, out = (len(x), self.width, *x.shape[2:]), x
        if not self.joined or self.skip:
            out = empty_map(shape)
        sums = flat(out)
        if self.skip:
            skip, given, made = self.skip, flat(x), sums
            cells = x.shape[2] * x.shape[3]
            team.share(cells, lambda first, last: skip(given, made, first, last))
        slot, calls = 0, list[Call]()
        for i, layer in enumerate(self.layers):
            inner = None
            if i < len(self.between):
                inner = Signs.of(self.between[i], shape, self.kernel)
            outer = after if self.joined else None
            calls.append(layer.call(signs, sums, slot, inner, outer, self.joined))
            slot += layer.width if self.joined else 0
            signs = inner.planes if inner else signs
        return calls, out

    def __call__(self, x: np.ndarray, signs: Planes, after: Signs | None = None, team: Team = ALONE) -> np.ndarray:
        """Run; arguments and result as of :meth:`calls`."""
        calls, out = self.calls(x, signs, after, team)
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
            layers.append(BinaryLayer(tensors[f"{i}.bits"], tensors[f"{i}.scale"], channels))
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
        pointwise: two of (weight (T, C), bias (T,)) float32.
    """

    chains: tuple[Chain, ...]
    pointwise: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __post_init__(self) -> None:
        if not self.chains or len(self.pointwise) != 2 or any(weight.ndim != 2 for weight, _ in self.pointwise):
            raise ModelError("a branch without layers")
        if self.chains[0].joined and not self.chains[0].skip:  # it would add to what the other branch reads
            raise ModelError("a first module without a shortcut")
        following = [len(chain.enter.low) for chain in self.chains[1:]]
        for chain, channels in zip(self.chains, [*following, self.pointwise[0][0].shape[1]], strict=True):
            if chain.width != channels:
                raise ModelError(f"{chain.width} channels before layers that read {channels}")
        (weight, bias), (weight2, bias2) = self.pointwise
        if (*bias.shape, *bias2.shape) != (len(weight), len(weight2)) or weight2.shape[1] != len(bias):
            raise ModelError(f"1x1 layers of {weight.shape} and {weight2.shape}")
        floats(weight, bias, weight2, bias2)

    @property
    def width(self) -> int:
        """Channels out."""
        return len(self.pointwise[1][1])

    def __call__(self, x: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """(N, C, H, W) float32 -> (N, T, H, W) float32; C may be larger than the first chain's."""
        signs = pack_activations(x, self.chains[0].enter, self.chains[0].kernel, team)
        waiting: list[Call] = []
        for i, chain in enumerate(self.chains):
            after = None
            if i + 1 < len(self.chains):
                following = self.chains[i + 1]
                after = Signs.of(following.enter, x.shape, following.kernel)
            if chain.skip:  # reads what is yet to be computed
                run(waiting, team)
                waiting = []
            calls, x = chain.calls(x, signs, after, team)
            waiting += calls
            signs = after.planes if after else signs
        run(waiting, team)
        return self.finish(x, team)

    def finish(self, x: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """The two 1x1 convolutions alone."""
        (weight, bias), (weight2, bias2) = self.pointwise
        out = np.empty((len(x), self.width, *x.shape[2:]), np.float32)
        given, made = flat(x), flat(out)

        def band(first: int, last: int) -> None:
            for one, maps in zip(given, made, strict=True):
                hidden = weight @ one[:, first:last]
                hidden += bias[:, None]
                np.maximum(hidden, 0, out=hidden)
                np.matmul(weight2, hidden, out=maps[:, first:last])
                maps[:, first:last] += bias2[:, None]

        team.share(x.shape[2] * x.shape[3], band)
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


def floats(*arrays: np.ndarray) -> None:
    """Refuse what is no float32, which would slow everything behind it down to float64.

    Raises:
        ModelError: names the type.
    """
    for array in arrays:
        if array.dtype != np.float32:
            raise ModelError(f"weights as {array.dtype}: must be float32")


def below(tensors: Tensors, prefix: str) -> Tensors:
    """Those with names that begin so, without that beginning."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Stage:
    """A refinement stage: [pafs, heatmaps, features] to pafs and heatmaps."""

    limbs: Branch
    joints: Branch

    def tensors(self) -> Tensors:
        """By name, for the file."""
        branches = {"limbs": self.limbs, "joints": self.joints}
        return {f"{side}.{name}": t for side, branch in branches.items() for name, t in branch.tensors().items()}


class Workers:
    """Threads of one network: the two branches of a stage side by side, and channels or cells of each shared out."""

    def __init__(self, threads: int) -> None:
        self._aside = Team(2) if threads > 1 else None
        self._teams = Team(max(1, (threads + 1) // 2)), Team(max(1, threads // 2))

    def run(self, stage: Stage, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fields and heatmaps (N, C, H, W) of a stage."""
        if self._aside is None:
            return stage.limbs(x), stage.joints(x)
        joints = self._aside.submit(stage.joints, x, self._teams[1])
        return stage.limbs(x, self._teams[0]), joints.result()


def refine(x: np.ndarray, stages: list[Stage], workers: Workers) -> np.ndarray:
    """What the first stage leaves -> the maps of the last.

    Args:
        x: (N, pafs + heatmaps + features, H, W) float32.
        stages: those after the first.
        workers: threads.

    Returns:
        (N, pafs + heatmaps, H, W) float32.
    """
    inputs, maps = x.copy(), 0
    for stage in stages:
        both = workers.run(stage, inputs)
        maps = sum(part.shape[1] for part in both)
        np.concatenate(both, 1, out=inputs[:, :maps])
    return inputs[:, :maps]
