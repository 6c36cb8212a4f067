"""Binary convolution with real bit operations: xor, count, add, by numba, without torch.

A bit is 1 where a value is >= 0, so the product of two signs is +1 where their bits agree. Over K taps

    dot = K - 2 popcount(a xor w),

and a tap outside the picture, which counts 0, is put right by the number of ones of its weights. Activations are
``(H + 2, W + 2, ceil(C / 32))`` 32-bit words with a border of zeros; weights are stored as
``(OC, 3, 3, ceil(C / 32))``; channel c is bit c % 32 of word c // 32 on every machine.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

try:
    from numba import njit, types
    from numba.core import cgutils
    from numba.extending import intrinsic
except ImportError as error:
    raise ImportError("binary layers need numba: pip install 'lithepose[binary]'") from error

from llvmlite import ir

LANES = 16  # output channels in one vector of 32-bit counts
INT64, INT32 = ir.IntType(64), ir.IntType(32)
COUNTS, FLOATS = ir.VectorType(INT32, LANES), ir.VectorType(ir.FloatType(), LANES)


def words(channels: int) -> int:
    """32-bit words that hold one bit a channel."""
    return -(-channels // 32)


def pack_bits(positive: np.ndarray) -> np.ndarray:
    """(..., C) bool -> (..., ceil(C / 32)) uint32; the bits beyond C are 0."""
    *shape, channels = positive.shape
    padded = np.zeros((*shape, 32 * words(channels)), bool)
    padded[..., :channels] = positive
    return np.packbits(padded, axis=-1, bitorder="little").view("<u4").astype(np.uint32, copy=False)


def pack_activations(x: np.ndarray) -> np.ndarray:
    """Signs of a feature map, with the border that the kernels read.

    Args:
        x: (H, W, C) floats; 0, -0 and what is larger gives 1, less than 0 and NaN gives 0.

    Returns:
        (H + 2, W + 2, ceil(C / 32)) uint32.
    """
    height, width, channels = x.shape
    bits = np.zeros((height + 2, width + 2, words(channels)), np.uint32)
    with np.errstate(invalid="ignore"):
        bits[1:-1, 1:-1] = pack_bits(x >= 0)
    return bits


@dataclass(frozen=True)
class BinaryLayer:
    """A 3x3 binary convolution, packed.

    Attributes:
        bits: (OC, 3, 3, ceil(C / 32)) uint32, signs of the weights.
        scale: (OC,) float32, mean of the absolute weights.
        channels: C.
    """

    bits: np.ndarray
    scale: np.ndarray
    channels: int

    @classmethod
    def from_weights(cls, weight: np.ndarray, scale: np.ndarray) -> BinaryLayer:
        """Pack latent float weights (OC, C, 3, 3) and the scales (OC,) that training took from them.

        The scales are given, because a mean that is summed in another order differs in its last bit.
        """
        with np.errstate(invalid="ignore"):
            bits = pack_bits(weight.transpose(0, 2, 3, 1) >= 0)
        return cls(bits, scale.astype(np.float32), weight.shape[1])

    @property
    def vectors(self) -> int:
        """Vectors of output channels that the kernel computes at once."""
        whole = -(-len(self.bits) // LANES)
        return next(q for q in (4, 2, 1) if whole % q == 0)

    @cached_property
    def lanes(self) -> np.ndarray:
        """(blocks, 9 words, 16 Q) uint32: the weights as the kernel reads them, output channels in lanes."""
        width = LANES * self.vectors
        blocks = -(-len(self.bits) // width)
        padded = np.zeros((blocks * width, self.bits[0].size), np.uint32)
        padded[: len(self.bits)] = self.bits.reshape(len(self.bits), -1)
        return np.ascontiguousarray(padded.reshape(blocks, width, -1).transpose(0, 2, 1))

    @cached_property
    def corrections(self) -> np.ndarray:
        """(4, 4, OC') int32: K less what padding counts too much, by row (1 first, 2 last, 3 both) and column alike."""
        ones = np.unpackbits(self.bits.view(np.uint8), axis=-1).sum(-1, dtype=np.int32)  # (OC, 3, 3)
        out = np.zeros((4, 4, self.lanes.shape[0] * self.lanes.shape[2]), np.int32)
        for row in range(4):
            for column in range(4):
                outside = np.zeros((3, 3), bool)
                outside[[r for r, bit in ((0, 1), (2, 2)) if row & bit]] = True
                outside[:, [c for c, bit in ((0, 1), (2, 2)) if column & bit]] = True
                out[row, column, : len(ones)] = self.channels * (~outside).sum() + 2 * ones[:, outside].sum(1)
        return out

    @cached_property
    def _scales(self) -> np.ndarray:
        return np.pad(self.scale, (0, self.corrections.shape[2] - len(self.scale)))

    def __call__(self, activations: np.ndarray) -> np.ndarray:
        """Convolve.

        Args:
            activations: (H + 2, W + 2, ceil(C / 32)) uint32 from :func:`pack_activations`.

        Returns:
            (H, W, OC) float32.

        Raises:
            ValueError: activations of another number of channels.
        """
        if activations.ndim != 3 or activations.shape[2] != words(self.channels):
            raise ValueError(f"activations of shape {activations.shape}: the layer has {self.channels} channels")
        height, width = activations.shape[0] - 2, activations.shape[1] - 2
        out = np.empty((height, width, self.corrections.shape[2]), np.float32)
        act = np.ascontiguousarray(activations)
        _convolve(act, self.lanes, self.corrections, self._scales, out, self.vectors)
        return out[..., : len(self.bits)]


def _flat_pointer(_typing: Any, array: Any, offset: Any) -> Any:
    """Pointer to an element of a contiguous array, counted flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate


_at: Any = intrinsic(_flat_pointer)


def _tile(pixels: int, vectors: int) -> Any:
    """Intrinsic: ``pixels`` neighbours in a row by ``16 * vectors`` output channels, all counts in registers.

    Vectors are written in LLVM's own terms, the scaling included: what numba makes of plain loops keeps the counts in
    memory and is several times slower. Multiplication and addition stay apart, so that every form of the layer gives
    the same bits.
    """

    def number(value: int) -> ir.Constant:
        return ir.Constant(INT64, value)

    def vector(builder: ir.IRBuilder, pointer: ir.Value, kind: ir.Type = COUNTS) -> ir.Value:
        return builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4)

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        act, row, weight, span, step, correct, scale, out, stride, x, width = arguments
        zero = ir.Constant(COUNTS, [0] * LANES)
        sums = [[cgutils.alloca_once_value(builder, zero) for _ in range(vectors)] for _ in range(pixels)]
        kind = ir.FunctionType(COUNTS, [COUNTS])
        count = cgutils.get_or_insert_function(builder.module, kind, f"llvm.ctpop.v{LANES}i32")
        place = cgutils.alloca_once_value(builder, weight)
        with cgutils.for_range(builder, number(3)) as line:
            base = builder.gep(act, [builder.mul(line.index, row)])
            with cgutils.for_range(builder, span) as word:
                at = builder.load(place)
                filters = [vector(builder, builder.gep(at, [number(LANES * q)])) for q in range(vectors)]
                builder.store(builder.gep(at, [number(LANES * vectors)]), place)
                for p in range(pixels):
                    offset = builder.add(word.index, builder.mul(step, number(p)))
                    bits = builder.load(builder.gep(base, [offset]))
                    one = builder.insert_element(ir.Constant(COUNTS, ir.Undefined), bits, ir.Constant(INT32, 0))
                    spread = builder.shuffle_vector(one, ir.Constant(COUNTS, ir.Undefined), zero)
                    for q in range(vectors):
                        differ = builder.call(count, [builder.xor(spread, filters[q])])
                        builder.store(builder.add(builder.load(sums[p][q]), differ), sums[p][q])
        for p in range(pixels):
            here = builder.add(x, number(p))
            first = builder.zext(builder.icmp_signed("==", here, number(0)), INT64)
            last = builder.zext(builder.icmp_signed("==", here, builder.sub(width, number(1))), INT64)
            column = builder.add(first, builder.shl(last, number(1)))
            corrections = builder.gep(correct, [builder.mul(column, stride)])
            for q in range(vectors):
                part = [number(LANES * q)]
                twice = builder.shl(builder.load(sums[p][q]), ir.Constant(COUNTS, [1] * LANES))
                dot = builder.sub(vector(builder, builder.gep(corrections, part)), twice)
                value = builder.fmul(builder.sitofp(dot, FLOATS), vector(builder, builder.gep(scale, part), FLOATS))
                target = builder.gep(out, [builder.add(builder.mul(stride, number(p)), part[0])])
                builder.store(value, builder.bitcast(target, FLOATS.as_pointer()), align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(
        _typing: Any,
        act: Any,
        row: Any,
        weight: Any,
        span: Any,
        step: Any,
        correct: Any,
        scale: Any,
        out: Any,
        stride: Any,
        x: Any,
        width: Any,
    ) -> Any:
        return types.void(act, row, weight, span, step, correct, scale, out, stride, x, width), generate

    return tile


# As many pixels as leave registers for the filters: (pixels + 1) * vectors + 1 of 32.
_tile54, _tile14, _tile82, _tile12, _tile81, _tile11 = (
    _tile(p, q) for p, q in ((5, 4), (1, 4), (8, 2), (1, 2), (8, 1), (1, 1))
)


# At the top of the file: numba compiles functions that are made in a closure anew at every start.
@njit(cache=True, nogil=True)
def _convolve(act: Any, lanes: Any, correct: Any, scale: Any, out: Any, vectors: int) -> None:
    height, width, channels = out.shape
    step = act.shape[2]
    row, span = act.shape[1] * step, 3 * step
    several = 5 if vectors == 4 else 8
    for block in range(lanes.shape[0]):
        first = LANES * vectors * block
        for y in range(height):
            edge = first + 4 * channels * ((y == 0) + 2 * (y == height - 1))
            x = 0
            while x < width:
                a, o = _at(act, y * row + x * step), _at(out, (y * width + x) * channels + first)
                w, c, s = _at(lanes, first * 3 * span), _at(correct, edge), _at(scale, first)
                if x + several <= width:
                    if vectors == 4:
                        _tile54(a, row, w, span, step, c, s, o, channels, x, width)
                    elif vectors == 2:
                        _tile82(a, row, w, span, step, c, s, o, channels, x, width)
                    else:
                        _tile81(a, row, w, span, step, c, s, o, channels, x, width)
                    x += several
                else:
                    if vectors == 4:
                        _tile14(a, row, w, span, step, c, s, o, channels, x, width)
                    elif vectors == 2:
                        _tile12(a, row, w, span, step, c, s, o, channels, x, width)
                    else:
                        _tile11(a, row, w, span, step, c, s, o, channels, x, width)
                    x += 1
