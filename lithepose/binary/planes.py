"""Signs of maps as planes of bits, and helpers: threads, intervals, aligned memory."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from ..errors import ModelError
from . import cells as machine
from .vectors import CELLS


class Team:
    """Threads that share channels or cells; the kernels release the GIL.

    Args:
        threads: number of threads, at least 1.
    """

    def __init__(self, threads: int = 1) -> None:
        self.threads = threads
        self._pool: tuple[int, ThreadPoolExecutor] | None = None

    def submit(self, work: Callable[..., Any], *arguments: object) -> Future[Any]:
        """Run the work in another thread."""
        if self._pool is None or self._pool[0] != os.getpid():  # threads do not survive a fork
            self._pool = os.getpid(), ThreadPoolExecutor(max(1, self.threads - 1))
        return self._pool[1].submit(work, *arguments)

    def share(self, count: int, work: Callable[[int, int], object]) -> None:
        """Call ``work(first, last)`` for bands that cover all of ``count``, and wait."""
        if self.threads == 1 or count < 2:
            work(0, count)
            return
        cuts = [count * i // self.threads for i in range(self.threads + 1)]
        bands = [(a, b) for a, b in pairwise(cuts) if b > a]
        others = [self.submit(work, *band) for band in bands[1:]]
        work(*bands[0])
        for other in others:
            other.result()


ALONE = Team()


@dataclass(frozen=True)
class Interval:
    """Range in which the sign of a channel is +: values from ``low`` to ``high``, both (C,) of one type.

    BatchNorm followed by a sign is such a range: from a threshold on if gamma > 0, up to a threshold if gamma < 0,
    everywhere or nowhere if gamma = 0. So for floats at least one end is infinite. NaN lies in no interval and gives -.
    (BatchNorm of an infinite value with gamma = 0 is NaN; here the value counts as finite.)
    """

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def sign(cls, channels: int) -> Interval:
        """The interval in which a float is 0, -0 or larger."""
        return cls(np.zeros(channels, np.float32), np.full(channels, np.inf, np.float32))

    def channels(self, kind: type) -> int:
        """Return the number of channels, after checking the type of the ends.

        Raises:
            ModelError: the ends have different shapes or other types.
        """
        if not self.low.ndim == self.high.ndim == 1 or len(self.low) != len(self.high):
            raise ModelError(
                f"interval ends have shapes {self.low.shape} and {self.high.shape}; expected (C,) for both"
            )
        if not self.low.dtype == self.high.dtype == kind:
            raise ModelError(f"interval ends are {self.low.dtype} and {self.high.dtype}; expected {kind.__name__}")
        return len(self.low)

    @cached_property
    def encoded(self) -> tuple[np.ndarray, np.ndarray]:
        """Return (flip, threshold), each (C,), for a single comparison of floats.

        A value is + if, after its sign bit is flipped by flip, it is at least the threshold; no number is at least NaN.
        """
        falling = ~np.isinf(self.high)
        if np.any(falling & np.isfinite(self.low)):
            raise ModelError("interval of floats has two finite ends; expected one, as from BatchNorm")
        threshold = np.where(falling, -self.high, self.low)
        threshold[self.low > self.high] = np.nan
        return np.where(falling, np.int32(-(2**31)), np.int32(0)), threshold


@dataclass(frozen=True)
class Planes:
    """Signs of a map, one bit per cell.

    Attributes:
        words: (N, C, M) uint64.
        height: height of the map.
        width: width of the map.
        kernel: side of the filters that read them.
    """

    words: np.ndarray
    height: int
    width: int
    kernel: int

    @classmethod
    def empty(cls, shape: tuple[int, ...], channels: int, kernel: int = 3) -> Planes:
        """Make planes for a map (N, C, H, W), with all signs -."""
        images, _, height, width = shape
        lead = cls.leading(width, kernel)
        words = np.zeros((images, channels, 2 * lead + padded(height * width) + 1), np.uint64)
        return cls(words, height, width, kernel)

    @cached_property
    def lead(self) -> int:
        """Number of words before the first cell."""
        return self.leading(self.width, self.kernel)

    @staticmethod
    def leading(width: int, kernel: int) -> int:
        """Number of words that the taps of a filter read before the first cell, for a map's width."""
        return -(-(kernel // 2) * (width + 1) // 64)

    def positive(self) -> np.ndarray:
        """Return (N, C, H, W) bool: which signs are +."""
        cells = self.height * self.width
        octets = self.words[..., self.lead : self.lead + padded(cells)].astype("<u8").view(np.uint8)
        bits = np.unpackbits(octets, axis=-1, count=cells, bitorder="little")
        return bits.reshape(*self.words.shape[:2], self.height, self.width) > 0

    @cached_property
    def shape(self) -> tuple[int, int, int, int]:
        """(N, C, H, W) of the map, after a check that the kernels can read and write the words.

        Raises:
            ModelError: they cannot.
        """
        words, length = self.words, 2 * self.lead + padded(self.height * self.width) + 1
        if words.dtype != np.uint64 or not words.flags.c_contiguous or words.shape[2] != length:
            raise ModelError(f"signs are {words.dtype} of shape {words.shape}; create them with Planes.empty")
        return len(words), words.shape[1], self.height, self.width

    def check(self, shape: tuple[int, ...]) -> None:
        """Check that the planes are those of a map (N, C, H, W), because the kernels do not check bounds.

        Raises:
            ModelError: they are planes of another map.
        """
        if self.shape != shape:
            images, channels, height, width = self.shape
            raise ModelError(
                f"signs have shape {(images, channels)} with {height}x{width} cells; expected {tuple(shape)}, with"
                f" {shape[1]} channels"
            )


def padded(cells: int) -> int:
    """Return the 64-bit words of a plane's whole blocks."""
    return -(-cells // CELLS) * (CELLS // 64)


def aligned(count: int, kind: type) -> np.ndarray:
    """Make an array (count,) aligned to a cache line."""
    room = np.empty(count + 64 // np.dtype(kind).itemsize, kind)
    first = -room.ctypes.data % 64 // room.itemsize
    return room[first : first + count]


def empty_map(shape: tuple[int, ...]) -> np.ndarray:
    """Make (N, C, H, W) float32 with every channel aligned to a cache line, which is fastest for the kernels."""
    images, channels, height, width = shape
    stride = -(-height * width // 16) * 16
    room = aligned(images * channels * stride, np.float32).reshape(images, channels, stride)
    return room[..., : height * width].reshape(shape)


def flat(x: np.ndarray) -> np.ndarray:
    """View an (N, C, H, W) map as contiguous (N, C, cells and the gap before the next channel).

    Raises:
        ModelError: the map has other dimensions or another type, or its cells are not contiguous.
    """
    if x.ndim != 4 or x.dtype != np.float32:
        raise ModelError(f"map is {x.dtype} of shape {x.shape}; expected float32 (N, C, H, W)")
    images, channels, height, width = x.shape
    size, cells = x.itemsize, height * width
    if x.flags.c_contiguous:
        return x.reshape(images, channels, cells)
    step = x.strides[1] if channels > 1 else x.strides[0] if images > 1 else cells * size
    straight = (
        (width == 1 or x.strides[3] == size)
        and (height == 1 or x.strides[2] == width * size)
        and step >= cells * size
        and step % size == 0
        and (images == 1 or x.strides[0] == channels * step)
    )
    if not straight:
        raise ModelError(
            f"map of shape {x.shape} has strides of {x.strides} bytes; must be contiguous or created with empty_map"
        )
    return np.lib.stride_tricks.as_strided(x, (images, channels, step // size), (channels * step, step, size))


def pack_activations(x: np.ndarray, interval: Interval | None = None, kernel: int = 3, team: Team = ALONE) -> Planes:
    """Pack the signs of a feature map, with the padding that the kernels read.

    Args:
        x: (N, C, H, W) floats.
        interval: interval of C or fewer channels; other channels are left out. By default, values of at least 0 give 1.
        kernel: side of the filters that read the signs.
        team: threads.

    Returns:
        Planes of the interval's channels.

    Raises:
        ModelError: x has other dimensions, or the interval has more channels than x.
    """
    if x.ndim != 4 or (interval and interval.channels(np.float32) > x.shape[1]):
        raise ModelError(f"map has shape {x.shape}; expected (N, C, H, W) with at least one channel per sign")
    interval = interval or Interval.sign(x.shape[1])
    channels = len(interval.low)
    out = Planes.empty(x.shape, channels, kernel)
    rows = np.ascontiguousarray(x, np.float32).reshape(*x.shape[:2], x.shape[2] * x.shape[3])
    halves = out.words.view(np.uint16)
    team.share(channels, lambda first, last: machine.pack(rows, *interval.encoded, halves, 4 * out.lead, first, last))
    return out


@dataclass(frozen=True)
class Signs:
    """Signs that a layer writes for the next one.

    Attributes:
        interval: interval of the channels that are read.
        planes: memory for the signs.
    """

    interval: Interval
    planes: Planes

    @classmethod
    def of(cls, interval: Interval, shape: tuple[int, ...], kernel: int = 3) -> Signs:
        """Make memory for the signs of a map (N, C, H, W), for filters of this size."""
        return cls(interval, Planes.empty(shape, len(interval.low), kernel))
