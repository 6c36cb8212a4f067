"""Refinement stages: chains of binary layers that stay bits inside, and float 1x1 layers; numpy and numba."""

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
        gain: (C,) float32, factor of BatchNorm.
        shift: (C,) float32, offset of BatchNorm.
        weight: (T, C) float32.
    """

    gain: np.ndarray
    shift: np.ndarray
    weight: np.ndarray

    def __post_init__(self) -> None:
        if not self.gain.shape == self.shift.shape == self.weight.shape[1:]:
            raise ModelError(
                f"shapes of the shortcut do not match: gain {self.gain.shape}, shift {self.shift.shape}, weight"
                f" {self.weight.shape}"
            )
        floats(self.gain, self.shift, self.weight)

    def __call__(self, x: np.ndarray, out: np.ndarray, first: int, last: int) -> None:
        """Convert cells ``first`` to ``last`` of x (N, C or more, cells) to out (N, T, cells)."""
        hidden = np.empty((len(x), len(self.gain), last - first), np.float32)
        machine.rectify(x, self.gain, self.shift, hidden, first)
        np.matmul(self.weight, hidden, out=out[:, :, first:last])


@dataclass(frozen=True)
class Chain:
    """Consecutive binary layers; signs between them stay bits.

    A chain is either a multi-scale module, with all layers concatenated and added to the input, or 7x7 layers of one
    width, of which only the last is kept.

    Attributes:
        enter: interval of floats in which the signs of the input are +.
        layers: layers in order.
        between: intervals of integers in which the signs of their sums are +, for all but the last layer.
        joined: whether the chain is a module.
        skip: the module's shortcut; if None, the input itself.

    Raises:
        ModelError: the layers do not fit each other; the kernels would not detect this.
    """

    enter: Interval
    layers: tuple[BinaryLayer, ...]
    between: tuple[Interval, ...]
    joined: bool
    skip: Skip | None = None

    def __post_init__(self) -> None:
        channels = [self.enter.channels(np.float32), *(interval.channels(np.int32) for interval in self.between)]
        if channels != [layer.channels for layer in self.layers] or len({layer.kernel for layer in self.layers}) > 1:
            raise ModelError(
                f"signs of {channels} channels do not match the inputs of the layers, or the filters differ in size"
            )
        if channels[1:] != [layer.width for layer in self.layers[:-1]]:
            raise ModelError(f"signs of {channels[1:]} channels do not match the outputs of the layers")
        _ = self.enter.encoded  # raises for ends that BatchNorm does not give
        for layer, interval in zip(self.layers, self.between, strict=False):
            layer.limits(interval)
        if not self.joined and len({layer.width for layer in self.layers}) > 1:
            raise ModelError("layers must have the same width if only the last one is kept")
        around = self.skip.weight.shape[::-1] if self.skip else (channels[0], channels[0])
        if self.joined and around != (channels[0], self.width):
            raise ModelError(
                f"shortcut maps {around[0]} to {around[1]} channels; expected {channels[0]} to {self.width}"
            )

    @property
    def width(self) -> int:
        """Number of output channels."""
        return sum(layer.width for layer in self.layers) if self.joined else self.layers[-1].width

    @property
    def kernel(self) -> int:
        """Side of the filters."""
        return self.layers[0].kernel

    def calls(
        self, x: np.ndarray, signs: Planes, after: Signs | None = None, team: Team = ALONE
    ) -> tuple[list[Call], np.ndarray]:
        """Prepare the calls for x; the shortcut is computed immediately.

        Args:
            x: (N, C or more, H, W) float32. A module without a shortcut adds to it in place.
            signs: signs of x.
            after: signs of the result, for the next module.
            team: threads of the shortcut.

        Returns:
            the calls, and (N, width, H, W) float32 for the result, which is x itself if the chain adds to it.
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
        """Run the chain; arguments and result as for :meth:`calls`."""
        calls, out = self.calls(x, signs, after, team)
        run(calls, team)
        return out

    def tensors(self) -> Tensors:
        """Return the tensors by name, for the file."""
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
        """Build a chain from its tensors; a KeyError names a missing one."""
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
    """A branch of a refinement stage: chains of binary layers, then two float 1x1 convolutions with a ReLU between.

    Attributes:
        chains: chains in order.
        pointwise: two of (weight (T, C), bias (T,)) float32.
    """

    chains: tuple[Chain, ...]
    pointwise: tuple[tuple[np.ndarray, np.ndarray], ...]

    def __post_init__(self) -> None:
        if not self.chains or len(self.pointwise) != 2 or any(weight.ndim != 2 for weight, _ in self.pointwise):
            raise ModelError("branch must have binary layers and two 1x1 layers")
        if self.chains[0].joined and not self.chains[0].skip:  # it would add to the input of the other branch
            raise ModelError("first module of a branch must have a shortcut")
        following = [len(chain.enter.low) for chain in self.chains[1:]]
        for chain, channels in zip(self.chains, [*following, self.pointwise[0][0].shape[1]], strict=True):
            if chain.width != channels:
                raise ModelError(f"layers have {chain.width} output channels, but the next layers read {channels}")
        (weight, bias), (weight2, bias2) = self.pointwise
        if (*bias.shape, *bias2.shape) != (len(weight), len(weight2)) or weight2.shape[1] != len(bias):
            raise ModelError(f"shapes of the 1x1 layers do not match: {weight.shape} and {weight2.shape}")
        floats(weight, bias, weight2, bias2)

    @property
    def width(self) -> int:
        """Number of output channels."""
        return len(self.pointwise[1][1])

    def __call__(self, x: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """Run (N, C, H, W) float32; returns (N, T, H, W) float32. C may be larger than the first chain's."""
        signs = pack_activations(x, self.chains[0].enter, self.chains[0].kernel, team)
        waiting: list[Call] = []
        for i, chain in enumerate(self.chains):
            after = None
            if i + 1 < len(self.chains):
                following = self.chains[i + 1]
                after = Signs.of(following.enter, x.shape, following.kernel)
            if chain.skip:  # it reads the result of the waiting calls
                run(waiting, team)
                waiting = []
            calls, x = chain.calls(x, signs, after, team)
            waiting += calls
            signs = after.planes if after else signs
        run(waiting, team)
        return self.finish(x, team)

    def finish(self, x: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """Run only the two 1x1 convolutions."""
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
        """Return the tensors by name, for the file."""
        out = {f"{i}.{name}": t for i, chain in enumerate(self.chains) for name, t in chain.tensors().items()}
        for i, (weight, bias) in enumerate(self.pointwise):
            out |= {f"pointwise.{i}.weight": weight, f"pointwise.{i}.bias": bias}
        return out

    @classmethod
    def from_tensors(cls, tensors: Tensors, joined: bool) -> Branch:
        """Build a branch from its tensors; a KeyError names a missing one."""
        chains = []
        while mine := below(tensors, f"{len(chains)}."):
            chains.append(Chain.from_tensors(mine, joined))
        last = below(tensors, "pointwise.")
        return cls(tuple(chains), tuple((last[f"{i}.weight"], last[f"{i}.bias"]) for i in range(2)))


def floats(*arrays: np.ndarray) -> None:
    """Check that arrays are float32. Another type would make all later computations float64.

    Raises:
        ModelError: they are not; names the type.
    """
    for array in arrays:
        if array.dtype != np.float32:
            raise ModelError(f"weights are {array.dtype}; expected float32")


def below(tensors: Tensors, prefix: str) -> Tensors:
    """Return the tensors with names that begin with a prefix, under names without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


@dataclass(frozen=True)
class Stage:
    """A refinement stage, from [pafs, heatmaps, features] to pafs and heatmaps."""

    limbs: Branch
    joints: Branch

    def tensors(self) -> Tensors:
        """Return the tensors by name, for the file."""
        branches = {"limbs": self.limbs, "joints": self.joints}
        return {f"{side}.{name}": t for side, branch in branches.items() for name, t in branch.tensors().items()}


class Workers:
    """Threads of one network: both branches of a stage run in parallel and share out their channels or cells."""

    def __init__(self, threads: int) -> None:
        self._aside = Team(2) if threads > 1 else None
        self._teams = Team(max(1, (threads + 1) // 2)), Team(max(1, threads // 2))

    def run(self, stage: Stage, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pafs and heatmaps (N, C, H, W) of a stage."""
        if self._aside is None:
            return stage.limbs(x), stage.joints(x)
        joints = self._aside.submit(stage.joints, x, self._teams[1])
        return stage.limbs(x, self._teams[0]), joints.result()


def refine(x: np.ndarray, stages: list[Stage], workers: Workers) -> np.ndarray:
    """Run the refinement stages on the output of the first stage.

    Args:
        x: (N, pafs + heatmaps + features, H, W) float32.
        stages: stages after the first.
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
