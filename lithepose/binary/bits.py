"""Binary convolution with real bit operations, by numba, without torch.

A bit is 1 for the sign +, so the product of two signs is +1 if their bits agree. Over K taps

    dot = 2 agreements - K.

Agreements are counted for hundreds of cells at once. Activations are planes with one bit per cell, and every bit of a
sum is a plane, too. Three bits a, b, c add up to a xor b xor c, and a carry if at least two of them are set. The
inputs of a filter are taken from a queue in groups of three. A filter affects the sum of a group in only two ways. The
carry is one of eight, because each input may be flipped by its weight. The lower bit is flipped if the lower bit of
the three weights' sum is set. So the eight carries are computed once for all filters. The lower bit joins the queue as
another input with a weight, and in the end one bit is left. A filter then only adds the carries, half as many as it
has inputs, again as sums of three bits: one operation on 512 cells per input of a filter. Xor, count and add, for
sixteen counts at a time, would take three. (Sharing work that few bits decide is the method of four Russians,
Arlazarov et al. 1970; sums as bits are Harley's and Seal's.)

A tap outside the map is 0 in the planes, so it agrees with weights of -, but must not count. The correction depends on
the position of the cell, which belongs to one of a few classes along the borders. A sum begins with this correction
instead of 0. Each of its bits is an or of some classes' cells.

Planes are ``(N, C, M)`` 64-bit words. Cell y W + x of a map is bit % 64 of word // 64, after a few words for taps
before the first cell. Whole blocks of 512 cells and a few more words follow. Weights are stored as
``(OC, kernel, kernel, ceil(C / 32))`` 32-bit words. Channel c is bit c % 32 of word c // 32. This requires a
little-endian machine, as all of numba's targets are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from ..errors import ModelError
from . import kernel as machine
from . import tiling
from .planes import ALONE, Interval, Planes, Signs, Team, aligned, empty_map, flat, pack_activations, padded
from .vectors import STEP

Call = tuple[Any, ...]
WORTH = 9 * 32 * 32  # smallest number of taps of a layer for which a measurement is worthwhile
THREE = 3  # layers of a multi-scale module


def words(channels: int) -> int:
    """Return the number of 32-bit words for one bit per channel."""
    return -(-channels // 32)


def pack_bits(positive: np.ndarray) -> np.ndarray:
    """Pack (..., C) bool to (..., ceil(C / 32)) uint32; the bits beyond C are 0."""
    *shape, channels = positive.shape
    whole = np.zeros((*shape, 32 * words(channels)), bool)
    whole[..., :channels] = positive
    return np.packbits(whole, axis=-1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


@dataclass(frozen=True)
class BinaryLayer:
    """A packed binary convolution that keeps the size.

    Attributes:
        bits: (OC, kernel, kernel, ceil(C / 32)) uint32, signs of the weights.
        scale: (OC,) float32, mean of the absolute weights.
        channels: C.

    Raises:
        ModelError: the shapes do not match; the kernels would not detect this.
    """

    bits: np.ndarray
    scale: np.ndarray
    channels: int

    def __post_init__(self) -> None:
        square = self.bits.ndim == 4 and self.bits.shape[1] == self.bits.shape[2] and self.bits.shape[1] % 2
        if not square or self.bits.shape[3] != words(self.channels) or self.scale.shape != self.bits.shape[:1]:
            raise ModelError(
                f"signs of shape {self.bits.shape} and scales of shape {self.scale.shape} do not match"
                f" {self.channels} channels"
            )
        if self.bits.dtype != np.uint32 or self.scale.dtype != np.float32:
            raise ModelError(f"signs are {self.bits.dtype} and scales {self.scale.dtype}; expected uint32 and float32")

    @classmethod
    def from_weights(cls, weight: np.ndarray, scale: np.ndarray) -> BinaryLayer:
        """Pack latent float weights (OC, C, kernel, kernel) with the scales (OC,) computed in training.

        The scales are arguments, because a mean in another order of summation differs in its last bit.
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
        """Number of output channels."""
        return len(self.bits)

    @property
    def taps(self) -> int:
        """Number of taps of a filter, over all channels."""
        return self.kernel**2 * self.channels

    @property
    def planes(self) -> int:
        """Bits of a sum, including its sign; at least as many as the kernel adds to at once."""
        return max(self.taps.bit_length() + 1, 8)

    @cached_property
    def _signs(self) -> np.ndarray:
        """(OC, C, kernel, kernel) bool: which weights are +."""
        bits = np.unpackbits(self.bits.astype("<u4").view(np.uint8), axis=-1, count=self.channels, bitorder="little")
        return bits.transpose(0, 3, 1, 2) > 0

    @cached_property
    def block(self) -> int:
        """Number of groups that the kernel adds at once; the fastest on this processor, see ``tiling``."""
        if self.taps * self.width < WORTH:
            return tiling.USUAL
        return tiling.block_of(f"{self.channels} to {self.width} channels, {self.kernel}x{self.kernel}", self._trial)

    def tiled(self, block: int) -> BinaryLayer:
        """Return the same layer with a given tiling, one of :data:`kernel.BLOCKS`."""
        layer = replace(self)
        layer.__dict__["block"] = block
        return layer

    def _trial(self, block: int) -> Callable[[], object]:
        """Return a call of this layer with a tiling."""
        layer = self.tiled(block)
        signs = np.random.default_rng(0).normal(size=(1, self.channels, 46, 46)).astype(np.float32)
        packed = pack_activations(signs, kernel=self.kernel)
        return lambda: layer(packed)

    @cached_property
    def choices(self) -> tuple[np.ndarray, np.ndarray]:
        """For every filter and group of three, the index of the carry that counts agreements, in the kernel's layout;
        and whether the last lower bit is flipped, (OC,) int64 of all ones or 0.
        """
        queue = ~self._signs.reshape(self.width, -1)  # an input agrees with a +; a flipped one agrees with a -
        if not queue.shape[1] % 2:  # three become one, so an odd number ends with one
            queue = np.pad(queue, ((0, 0), (0, 1)))
        made = []
        while (groups := queue.shape[1] // 3) > 0:
            three = queue[:, : 3 * groups].reshape(self.width, groups, 3)
            made.append(three @ np.array([1, 2, 4]))
            queue = np.concatenate([queue[:, 3 * groups :], three.sum(2) % 2 > 0], 1)
        choice = np.concatenate(made, 1) if made else np.zeros((self.width, 0), int)
        choice = np.pad(choice, ((0, 0), (0, -choice.shape[1] % 16)))
        index = (choice * STEP).astype(np.uint8)
        blocks = [index[:, i : i + self.block].ravel() for i in range(0, index.shape[1], self.block)]
        return np.concatenate([index[:, :0].ravel(), *blocks]), -queue[:, 0].astype(np.int64)

    def initial(self, outside: np.ndarray) -> np.ndarray:
        """Initial values of the sums: minus the number of taps, corrected for taps outside the map.

        Args:
            outside: (classes, kernel * kernel) bool, taps outside the map; classes is a multiple of eight.

        Returns:
            (OC, planes, classes / 8 + 1) uint8: for every bit of a sum, the classes in which it differs from the middle
            of the map, eight classes per byte; then its value in the middle, where no tap is outside.
        """
        minus = (~self._signs).sum(1).reshape(self.width, -1)  # (OC, taps)

        def bits(missing: np.ndarray) -> np.ndarray:  # (classes, taps) -> (OC, planes, classes)
            begin = -(self.channels * (~missing).sum(1) + 2 * (minus @ missing.T))
            return (begin[:, None] >> np.arange(self.planes)[:, None] & 1).astype(np.uint8)

        middle = bits(np.zeros((1, outside.shape[1]), bool))
        return np.concatenate([np.packbits(bits(outside) ^ middle, axis=2, bitorder="little"), middle], 2)

    @cached_property
    def _kept(self) -> dict[Any, Any]:
        """Cache for maps of a size and for intervals."""
        return {}

    def _keep(self, key: Any, make: Callable[[], Any]) -> Any:
        kept = self._kept
        made = kept.get(key)
        if made is None:  # two threads may compute it, which is harmless
            if len(kept) > 64:
                kept.clear()
            made = kept[key] = make()
        return made

    def limits(self, interval: Interval) -> tuple[np.ndarray, np.ndarray]:
        """Convert an interval of sums for the kernel: bits of the negative limits, all ones or 0; and what is flipped.

        Raises:
            ModelError: an interval has two finite ends.
        """
        most = self.taps
        low, high = interval.low.astype(np.int64), interval.high.astype(np.int64)
        rising = high >= most
        if np.any(~rising & (low > -most) & (low <= high)):
            raise ModelError("interval of sums has two finite ends; expected one, as from BatchNorm")
        limit = np.where(low > high, -most, np.where(rising, low, high + 1)).clip(-most, most + 1)
        turned = rising & (low <= high)
        bits = -limit[:, None] >> np.arange(self.planes) & 1
        return -bits, -turned.astype(np.int64)

    def __call__(self, activations: Planes, team: Team = ALONE, *, tight: bool = False) -> np.ndarray:
        """Convolve.

        Args:
            activations: signs of C channels.
            team: threads.
            tight: return a contiguous array; otherwise there may be a gap before the next channel, see ``empty_map``.

        Returns:
            (N, OC, H, W) float32.

        Raises:
            ModelError: the activations have another number of channels.
        """
        shape = len(activations.words), self.width, activations.height, activations.width
        out = np.empty(shape, np.float32) if tight else empty_map(shape)
        run([self.call(activations, out, joined=False)], team)
        return out

    def call(
        self,
        activations: Planes,
        out: np.ndarray,
        slot: int = 0,
        inner: Signs | None = None,
        outer: Signs | None = None,
        joined: bool = True,
    ) -> Call:
        """Prepare a call for :func:`run`: convolve, add to the output and write the signs for the next layers.

        Args:
            activations: signs of C channels.
            out: (N, T, H, W) float32, written from channel ``slot`` on; or its ``flat`` form.
            slot: first output channel.
            inner: signs of this layer's integer sums, by an interval of integers (OC,).
            outer: signs of the values written to out, by an interval of floats (T,).
            joined: add to out; if False, there are no outer signs.

        Raises:
            ModelError: arrays do not fit the layer or each other; the kernels would not detect this.
        """
        cells = activations.height * activations.width
        sums = out if out.ndim == 3 else flat(out)
        if sums.dtype != np.float32 or not sums.flags.c_contiguous or sums.shape[2] < cells:
            raise ModelError(
                f"sums are {sums.dtype} of shape {sums.shape}; expected contiguous float32 with {cells} cells or more"
            )
        size = activations.height, activations.width
        cells_of = size if out.ndim == 3 else out.shape[2:]
        activations.check((len(sums), self.channels, *cells_of))
        if activations.kernel != self.kernel:
            raise ModelError(
                f"signs are packed for {activations.kernel}x{activations.kernel} filters, but the filters are"
                f" {self.kernel}x{self.kernel}"
            )
        total = sums.shape[1]
        if slot < 0 or slot + self.width > total:
            raise ModelError(f"{self.width} channels from channel {slot} on do not fit into {total} channels")
        if outer and not joined:
            raise ModelError("outer signs need joined=True")
        for signs, kind, channels in ((inner, np.int32, self.width), (outer, np.float32, total)):
            if signs and signs.interval.channels(kind) != channels:
                raise ModelError(f"signs have {len(signs.interval.low)} channels; expected {channels}")
            if signs:
                signs.planes.check((len(sums), channels, *size))
        return (
            activations.words,
            self.block,
            *self._keep(size, lambda: self._fixed(*size)),
            sums,
            cells,
            slot,
            joined,
            _no_inner(self.width) if inner is None else self._inner(inner),
            _no_outer(total) if outer is None else (*outer.interval.encoded, *_sink(outer, np.uint16)),
        )

    def _fixed(self, height: int, width: int) -> tuple[Any, ...]:
        """Return the layer's arguments of the kernel, for maps of a size."""
        shifts, masks, classes, outside = _geometry(height, width, self.kernel)
        index, turns = self.choices
        return shifts, masks, index, turns, self.initial(outside), classes, self.scale

    def _inner(self, signs: Signs) -> tuple[Any, ...]:
        interval = signs.interval
        known, limits = self._keep(id(interval), lambda: (interval, self.limits(interval)))
        if known is not interval:  # in a copy of the layer with other intervals
            limits = self.limits(interval)
        return *limits, *_sink(signs, np.uint64)


def run(calls: Sequence[Call], team: Team = ALONE) -> None:
    """Run calls of :meth:`BinaryLayer.call` in order."""
    at, alone = 0, team.threads == 1
    while at < len(calls):
        # Always a module's three layers at once, because every other number of them would be compiled separately.
        some = calls[at : at + THREE] if alone and at + THREE <= len(calls) else calls[at : at + 1]
        if len(some) == THREE:
            machine.run(tuple(some), _scratch(some))
        else:  # each layer reads all channels of the one before
            call = some[0]
            team.share(len(call[5]), lambda a, b, call=call: machine.convolve(_scratch([call]), a, b, *call))
        at += len(some)


_own = threading.local()


def _scratch(calls: Sequence[Call]) -> np.ndarray:
    """Return this thread's scratch memory for the kernel, which is kept."""
    words = max(_room(c[0].shape[1] * len(c[2]), c[6].shape, c[1]) for c in calls)
    kept: np.ndarray | None = getattr(_own, "scratch", None)
    if kept is None or len(kept) < words:
        kept = _own.scratch = aligned(words, np.uint64)
    return kept


@lru_cache(64)
def _room(inputs: int, initial: tuple[int, int, int], block: int) -> int:
    """Return its size in 64-bit words for a number of inputs, given the shape of the initial sums."""
    return machine.places(inputs, initial[0], initial[1], initial[2] - 1, block)[-1]


@lru_cache(64)
def _geometry(height: int, width: int, kernel: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Precompute taps and border classes for a map's size and a filter's size.

    Returns:
        shifts (taps,) int64, the bit of a plane that each tap reads for cell 0; masks (taps, words) uint64, where the
        tap is in the map; classes (8 n, words) uint64, cells that miss the same taps; outside (8 n, taps) bool, these.
    """
    half, cells = kernel // 2, height * width
    steps = [(y, x) for y in range(-half, half + 1) for x in range(-half, half + 1)]
    rows, columns = np.divmod(np.arange(cells), width)
    missing = np.array(
        [(rows + y < 0) | (rows + y >= height) | (columns + x < 0) | (columns + x >= width) for y, x in steps]
    )
    outside, of = np.unique(missing, axis=1, return_inverse=True)  # (taps, classes), (cells,)
    border = outside.any(0)
    of, outside = np.where(border, np.cumsum(border) - 1, -1)[of.reshape(-1)], outside[:, border]
    count = outside.shape[1]
    belongs = of == np.arange(count)[:, None]
    fill = -count % 8 or 8 * (not count)
    classes = np.pad(belongs, ((0, fill), (0, 0)))
    return (
        np.array([64 * Planes.leading(width, kernel) + y * width + x for y, x in steps], np.int64),
        _planes(~missing),
        _planes(classes),
        np.pad(outside.T, ((0, fill), (0, 0))),
    )


def _planes(bits: np.ndarray) -> np.ndarray:
    """Pack (rows, cells) bool to (rows, words of whole blocks) uint64."""
    out = np.zeros((len(bits), 64 * padded(bits.shape[1])), bool)
    out[:, : bits.shape[1]] = bits
    return np.packbits(out, axis=1, bitorder="little").view("<u8").astype(np.uint64)


def _sink(signs: Signs, kind: type) -> tuple[np.ndarray, int, bool]:
    """Return where signs are written, in words of a type."""
    words = signs.planes.words.view(kind)
    return words, signs.planes.lead * 8 // words.itemsize, True


# Placeholders for signs that are not needed, of integers and of floats.
@lru_cache(64)
def _no_inner(channels: int) -> tuple[Any, ...]:
    return np.zeros((1, 1), np.int64), np.zeros(channels, np.int64), np.zeros((1, 1, 1), np.uint64), 0, False


@lru_cache(64)
def _no_outer(channels: int) -> tuple[Any, ...]:
    return np.zeros(channels, np.int32), np.zeros(channels, np.float32), np.zeros((1, 1, 1), np.uint16), 0, False
