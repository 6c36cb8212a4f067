"""Binary convolution with real bit operations: xor, count, add, by numba, without torch.

A bit is 1 where a sign is +, so the product of two signs is +1 where their bits agree. Over K taps

    dot = K - 2 popcount(a xor w),

and a tap outside the picture, which counts 0, is put right by the number of ones of its weights. Activations are
``(N, H + 2b, W + 2b, ceil(C / 32))`` 32-bit words with a border of b = kernel // 2 zeros; weights are stored as
``(OC, kernel, kernel, ceil(C / 32))``; channel c is bit c % 32 of word c // 32, on little-endian machines, which all
are that numba compiles for.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from . import kernel as machine

LANES = machine.LANES
Call = tuple[Any, ...]


def words(channels: int) -> int:
    """32-bit words that hold one bit a channel."""
    return -(-channels // 32)


def pack_bits(positive: np.ndarray) -> np.ndarray:
    """(..., C) bool -> (..., ceil(C / 32)) uint32; the bits beyond C are 0."""
    *shape, channels = positive.shape
    padded = np.zeros((*shape, 32 * words(channels)), bool)
    padded[..., :channels] = positive
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


class Team:
    """Threads that share out the rows of a map; the kernels let go of the interpreter.

    Args:
        threads: 1 or more.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def submit(self, work: Callable[..., Any], *arguments: object) -> Future[Any]:
        """Let another thread do it."""
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not outlive a fork
            self._pool = os.getpid(), ThreadPoolExecutor(max(1, self.threads - 1))
        return self._pool[1].submit(work, *arguments)

    def rows(self, height: int, work: Callable[[int, int], object]) -> None:
        """Call ``work(first, last)`` for bands that together are all rows, and wait for them."""
        if self.threads == 1 or height < 2:
            work(0, height)
            return
        cuts = [height * i // self.threads for i in range(self.threads + 1)]
        bands = [(a, b) for a, b in pairwise(cuts) if b > a]
        others = [self.submit(work, *band) for band in bands[1:]]
        work(*bands[0])
        for other in others:
            other.result()


ALONE = Team()


@dataclass(frozen=True)
class Interval:
    """Where the sign of a channel is +: at values from ``low`` to ``high``, both (C,) of one type.

    BatchNorm before a sign is nothing else: from a threshold on where gamma > 0, up to one where gamma < 0, everywhere
    or nowhere where gamma = 0. So one end at least is infinite, where the values are floats. What is no number lies in
    no interval and gives -. (BatchNorm makes of an infinite value and gamma = 0 no number; here it counts as finite.)
    """

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def sign(cls, channels: int) -> Interval:
        """+ where a float is 0, -0 or larger."""
        return cls(np.zeros(channels, np.float32), np.full(channels, np.inf, np.float32))

    def channels(self, kind: type) -> int:
        """How many, of values of a kind.

        Raises:
            ValueError: ends of other shapes or types.
        """
        if not self.low.ndim == self.high.ndim == 1 or len(self.low) != len(self.high):
            raise ValueError(f"intervals from {self.low.shape} to {self.high.shape}")
        if not self.low.dtype == self.high.dtype == kind:
            raise ValueError(f"intervals as {self.low.dtype}, {self.high.dtype}: must be {kind.__name__}")
        return len(self.low)

    @cached_property
    def encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """What one comparison needs.

        Integers: (low, length), + where value - low, without a sign, is less than length. Floats: (flip, threshold), +
        where the value, its sign bit turned by flip, is at least the threshold; no number is at least NaN.
        """
        if np.issubdtype(self.low.dtype, np.integer):
            length = self.high.astype(np.int64) - self.low + 1
            return np.ascontiguousarray(self.low), np.clip(length, 0, 2**32 - 1).astype(np.uint32)
        falling = ~np.isinf(self.high)
        if np.any(falling & np.isfinite(self.low)):
            raise ValueError("an interval of floats with two ends: BatchNorm gives one")
        threshold = np.where(falling, -self.high, self.low)
        threshold[self.low > self.high] = np.nan
        return np.where(falling, np.int32(-(2**31)), np.int32(0)), threshold


def empty_bits(pictures: int, height: int, width: int, channels: int, kernel: int = 3) -> np.ndarray:
    """Room for signs with their border: (N, H + 2b, W + 2b, ceil(C / 32)) uint32 of zeros."""
    border = 2 * (kernel // 2)
    return np.zeros((pictures, height + border, width + border, words(channels)), np.uint32)


def pack_activations(
    x: np.ndarray, interval: Interval | None = None, kernel: int = 3, team: Team = ALONE
) -> np.ndarray:
    """Signs of a feature map, with the border that the kernels read.

    Args:
        x: (N, H, W, C) floats.
        interval: of C or fewer channels; the others are left out. By default what is at least 0 gives 1.
        kernel: side of the filters that will read them.
        team: threads.

    Returns:
        (N, H + 2b, W + 2b, words of the interval's channels) uint32.

    Raises:
        ValueError: x of other dimensions, or an interval of more channels than it has.
    """
    if x.ndim != 4 or (interval and interval.channels(np.float32) > x.shape[3]):
        raise ValueError(f"a map of shape {x.shape}: give (N, H, W, C) with a channel for every sign")
    interval = interval or Interval.sign(x.shape[3])
    x = np.ascontiguousarray(x, np.float32)
    height = x.shape[1]
    out = empty_bits(*x.shape[:3], channels=len(interval.low), kernel=kernel)
    halves = out.view(np.uint16)
    team.rows(height, lambda first, last: machine.pack(x, *interval.encoded, halves, first, last))
    return out


@dataclass(frozen=True)
class Signs:
    """Signs that a layer writes for the one that reads them.

    Attributes:
        interval: of the channels that are looked at.
        bits: from :func:`empty_bits`.
    """

    interval: Interval
    bits: np.ndarray

    @classmethod
    def of(cls, interval: Interval, shape: tuple[int, ...], kernel: int = 3) -> Signs:
        """With room for signs of a map (N, H, W, ...) that filters of this size will read."""
        return cls(interval, empty_bits(*shape[:3], channels=len(interval.low), kernel=kernel))

    def fit(self, shape: tuple[int, ...]) -> bool:
        """Whether there is room for those of a map (N, H, W, ...)."""
        pictures, height, width, count = self.bits.shape
        border = height - shape[1]
        if self.bits.dtype != np.uint32 or not self.bits.flags.c_contiguous:
            return False
        fits = border == width - shape[2] and border >= 0 and not border % 2
        return fits and pictures == shape[0] and count == words(len(self.interval.low))

    @property
    def sink(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """As the kernel takes them."""
        halves = self.bits.view(np.uint16)
        return *self.interval.encoded, halves, halves.shape[3]


@dataclass(frozen=True)
class BinaryLayer:
    """A binary convolution that keeps the size, packed.

    Attributes:
        bits: (OC, kernel, kernel, ceil(C / 32)) uint32, signs of the weights.
        scale: (OC,) float32, mean of the absolute weights.
        channels: C.

    Raises:
        ValueError: shapes that do not belong together, which the kernels would not notice.
    """

    bits: np.ndarray
    scale: np.ndarray
    channels: int

    def __post_init__(self) -> None:
        square = self.bits.ndim == 4 and self.bits.shape[1] == self.bits.shape[2] and self.bits.shape[1] % 2
        if not square or self.bits.shape[3] != words(self.channels) or self.scale.shape != self.bits.shape[:1]:
            raise ValueError(f"signs {self.bits.shape} and scales {self.scale.shape} for {self.channels} channels")
        if self.bits.dtype != np.uint32 or self.scale.dtype != np.float32:
            raise ValueError(f"signs as {self.bits.dtype} and scales as {self.scale.dtype}: must be uint32 and float32")

    @classmethod
    def from_weights(cls, weight: np.ndarray, scale: np.ndarray) -> BinaryLayer:
        """Pack latent float weights (OC, C, kernel, kernel) and the scales (OC,) that training took from them.

        The scales are given, because a mean that is summed in another order differs in its last bit.
        """
        with np.errstate(invalid="ignore"):
            bits = pack_bits(weight.transpose(0, 2, 3, 1) >= 0)
        return cls(bits, scale.astype(np.float32), weight.shape[1])

    @property
    def kernel(self) -> int:
        """Side of the square filter."""
        return self.bits.shape[1]

    @property
    def width(self) -> int:
        """Channels out."""
        return len(self.bits)

    @cached_property
    def lanes(self) -> np.ndarray:
        """(blocks, taps' words, 16 Q) uint32: the weights as the kernel reads them, output channels in lanes."""
        whole = -(-self.width // LANES)
        width = LANES * next(q for q in (4, 2, 1) if q <= machine.MOST and whole % q == 0)
        padded = np.zeros((whole * LANES, self.bits[0].size), np.uint32)
        padded[: self.width] = self.bits.reshape(self.width, -1)
        return np.ascontiguousarray(padded.reshape(-1, width, padded.shape[1]).transpose(0, 2, 1))

    @cached_property
    def corrections(self) -> np.ndarray:
        """(classes, classes, OC') int32: taps less what padding counts too much, by row and column; see _classes."""
        ones = np.unpackbits(self.bits.view(np.uint8), axis=-1).sum(-1, dtype=np.int32)  # (OC, kernel, kernel)
        half, size = self.kernel // 2, self.kernel
        sides = [(before, after) for before in range(half + 1) for after in range(half + 1)]
        outside = np.array([[i < a or i >= size - b for i in range(size)] for a, b in sides])  # (classes, kernel)
        out = np.zeros((len(sides), len(sides), self.lanes.shape[0] * self.lanes.shape[2]), np.int32)
        for i, row in enumerate(outside):
            for j, column in enumerate(outside):
                missing = row[:, None] | column
                out[i, j, : self.width] = self.channels * (~missing).sum() + 2 * ones[:, missing].sum(1)
        return out

    @cached_property
    def _scales(self) -> np.ndarray:
        return np.pad(self.scale, (0, self.corrections.shape[2] - self.width))

    def __call__(self, activations: np.ndarray, team: Team = ALONE) -> np.ndarray:
        """Convolve.

        Args:
            activations: (N, H + 2b, W + 2b, ceil(C / 32)) uint32 from :func:`pack_activations`.
            team: threads.

        Returns:
            (N, H, W, OC) float32.

        Raises:
            ValueError: activations of another number of channels.
        """
        border = 2 * (self.kernel // 2)
        if (
            activations.ndim != 4
            or activations.shape[3] != words(self.channels)
            or min(activations.shape[1:3]) <= border
        ):
            raise ValueError(
                f"activations of shape {activations.shape}: the layer has {self.channels} channels and {self.kernel} x"
                f" {self.kernel} filters"
            )
        pictures, height, width = (s - b for s, b in zip(activations.shape, (0, border, border), strict=False))
        out = np.empty((pictures, height, width, self.corrections.shape[2]), np.float32)
        run([self.call(np.ascontiguousarray(activations), out, joined=False)], team)
        return out[..., : self.width]

    def call(
        self,
        activations: np.ndarray,
        out: np.ndarray,
        slot: int = 0,
        inner: Signs | None = None,
        outer: Signs | None = None,
        joined: bool = True,
    ) -> Call:
        """What :func:`run` needs to convolve, add to what is there and write the signs that the next layers read.

        Args:
            activations: (N, H + 2b, W + 2b, ceil(C / 32)) uint32.
            out: (N, H, W, T) float32, written from channel ``slot`` on.
            slot: a multiple of 16.
            inner: signs of this layer's integer sums, by an interval of integers (OC,).
            outer: signs of what is written to out, by an interval of floats (T,).
            joined: without it nothing is added, and there are no outer signs.

        Raises:
            ValueError: arrays that do not fit the layer or one another, or a slot that 16 does not divide; the kernels
                would not notice.
        """
        border = 2 * (self.kernel // 2)
        pictures, height, width, total = out.shape
        if activations.shape != (pictures, height + border, width + border, words(self.channels)):
            raise ValueError(f"signs of shape {activations.shape} for {out.shape}, {self.channels} channels in")
        if activations.dtype != np.uint32 or out.dtype != np.float32:
            raise ValueError(f"signs as {activations.dtype} and sums as {out.dtype}: must be uint32 and float32")
        if not (activations.flags.c_contiguous and out.flags.c_contiguous):
            raise ValueError("signs or sums that are not contiguous")
        if slot % LANES or slot + self.corrections.shape[2] > total:
            raise ValueError(f"{self.width} channels from {slot} on in {total}: must fit, by multiples of {LANES}")
        if outer and not joined:
            raise ValueError("signs of a sum where nothing is added")
        if inner and (inner.interval.channels(np.int32) != self.width or self.width % LANES):
            raise ValueError(f"signs of {len(inner.interval.low)} sums of {self.width}: must be multiples of {LANES}")
        if outer and (outer.interval.channels(np.float32) != total or total % LANES):
            raise ValueError(f"signs of {len(outer.interval.low)} channels of {total}: must be multiples of {LANES}")
        classes, channels = self.corrections.shape[1:]
        half = self.kernel // 2
        for signs in (inner, outer):
            if signs and not signs.fit(out.shape):
                raise ValueError(f"no room for the signs of {out.shape} in {signs.bits.shape}; make it by Signs.of")
        return (
            activations,
            self.kernel,
            self.lanes,
            self.corrections,
            _classes(out.shape[1], half, classes * channels),
            _classes(out.shape[2], half, channels),
            self._scales,
            out,
            slot,
            joined,
            _nobody(out.shape[3], np.uint32) if inner is None else inner.sink,
            _nobody(out.shape[3], np.float32) if outer is None else outer.sink,
        )


def run(calls: Sequence[Call], team: Team = ALONE) -> None:
    """Carry out calls of :meth:`BinaryLayer.call` on maps of one height, one after the other."""
    if not calls:
        return
    if team.threads == 1:
        machine.run(tuple(calls), 0, calls[0][7].shape[1])
        return
    for call in calls:  # each looks at its neighbours' rows of the one before
        team.rows(call[7].shape[1], lambda first, last, call=call: machine.run((call,), first, last))


@lru_cache(256)
def _classes(length: int, half: int, stride: int) -> np.ndarray:
    """(length,) int64: how many of a filter's taps lie before the map and how many behind, as one number, by stride."""
    place = np.arange(length, dtype=np.int64)
    before, after = np.maximum(half - place, 0), np.maximum(place + half - (length - 1), 0)
    return (before * (half + 1) + after) * stride


@lru_cache(64)
def _nobody(channels: int, kind: type) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """In the place of signs that nobody reads."""
    bits = np.zeros((1, 1, 1, -(-channels // LANES)), np.uint16)
    return np.zeros(channels, np.int32), np.zeros(channels, kind), bits, 0
