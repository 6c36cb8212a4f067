"""Bits of cells to sums and floats, and back: the ends of a binary convolution."""

from __future__ import annotations

from typing import Any

import numpy as np

from .vectors import (
    BYTES,
    COUNTS,
    FLOATS,
    GFNI,
    INT8,
    INT16,
    INT32,
    LANES,
    SHORTS,
    STEP,
    VECTOR,
    WIDTH,
    add,
    at,
    call,
    cgutils,
    compiled,
    constant,
    intrinsic,
    ir,
    load,
    splat,
    spread,
    store,
    types,
)


def last_bit(builder: Any, last: Any) -> Any:
    """A sum's last lower bit: (where it is, all ones where it is turned)."""
    bit, turn = cgutils.unpack_tuple(builder, last)
    return builder.xor(load(builder, bit, align=WIDTH // 8), spread(builder, turn, VECTOR))


@intrinsic
def below(_typing: Any, planes: Any, count: Any, last: Any, limit: Any, flip: Any, mask: Any, target: Any) -> Any:
    """Where a sum of ``count`` bits and twice the last lower bit is below a limit, turned by flip; and mask, to target.

    last: (the lower bit, all ones where it is turned).
    limit: the bits of minus the limit, a word of ones or zeros each.
    """

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        planes, count, last, limit, flip, mask, target = arguments
        rising = cgutils.alloca_once_value(builder, last_bit(builder, last))
        carry, top = (cgutils.alloca_once_value(builder, splat(0)) for _ in range(2))

        def bit(index: Any, plane: Any) -> None:
            other = spread(builder, builder.load(builder.gep(limit, [index])), VECTOR)
            builder.store(add(builder, plane, other, builder.load(carry))[1], carry)
            builder.store(builder.xor(plane, other), top)

        bit(constant(0), load(builder, planes, align=WIDTH // 8))
        with cgutils.for_range_slice(builder, constant(1), count, constant(1)) as (index, _):
            plane = load(builder, planes, builder.mul(index, constant(STEP)), align=WIDTH // 8)
            bit(index, builder.xor(plane, builder.load(rising)))
            builder.store(builder.and_(plane, builder.load(rising)), rising)
        sign = builder.xor(builder.load(top), builder.load(carry))  # of both numbers with one bit more
        sign = builder.and_(builder.xor(sign, spread(builder, flip, VECTOR)), load(builder, mask))
        store(builder, sign, target)
        return context.get_dummy_value()

    return types.void(planes, count, last, limit, flip, mask, target), generate


def _transposed(builder: Any, planes: list[Any]) -> list[Any]:
    """Eight vectors, a bit a cell -> eight of a byte a cell, 128 bits for 16 cells; see ``unpack``."""
    rows = [builder.bitcast(p, BYTES) for p in (planes[::-1] if GFNI else planes)]
    for size in (1, 2, 4):  # side by side: bytes of two neighbours, then pairs, then fours, by halves of 128 bits
        starts = [[lane + byte for byte in range(0, 8, size)] for lane in range(0, WIDTH // 8, 16)]
        for first in (i for i in range(8) if not i & size):
            pair = rows[first], rows[first + size]
            for half in range(2):
                bytes_ = [
                    source + start + 8 * half + byte
                    for lane in starts
                    for start in lane
                    for source in (0, WIDTH // 8)
                    for byte in range(size)
                ]
                order = ir.Constant(ir.VectorType(INT32, len(bytes_)), bytes_)
                rows[first + size * half] = builder.shuffle_vector(*pair, order)
    return [_turn(builder, rows[i]) for i in (0, 4, 2, 6, 1, 5, 3, 7)]


def _turn(builder: Any, rows: Any) -> Any:
    """Every eight bytes as a square of bits, turned over its diagonal."""
    if GFNI:
        unit = ir.Constant(BYTES, [1 << i % 8 for i in range(WIDTH // 8)])
        name = f"llvm.x86.vgf2p8affineqb.{WIDTH}"
        return call(builder, name, [unit, rows, ir.Constant(INT8, 0)], BYTES)
    x = builder.bitcast(rows, VECTOR)
    for shift, mask in ((7, 0x00AA00AA00AA00AA), (14, 0x0000CCCC0000CCCC), (28, 0x00000000F0F0F0F0)):
        by = splat(shift)
        t = builder.and_(builder.xor(x, builder.lshr(x, by)), splat(mask))
        x = builder.xor(builder.xor(x, t), builder.shl(t, by))
    return builder.bitcast(x, BYTES)


def _interleaved(builder: Any, low: Any, high: Any) -> list[Any]:
    """Lower and higher bytes of 16 cells in every 128 bits -> halves of 16 bits, 16 cells in every 256."""
    whole, order = WIDTH // 8, []
    for lane in range(0, whole, 16):
        order += [place for byte in range(lane, lane + 16) for place in (byte, whole + byte)]
    parts = [order[:whole], order[whole:]]
    return [builder.shuffle_vector(low, high, ir.Constant(ir.VectorType(INT32, whole), part)) for part in parts]


@intrinsic(prefer_literal=True)
def unpack(_typing: Any, size: Any, planes: Any, count: Any, last: Any, target: Any) -> Any:
    """A sum of ``count`` bits, and the last lower bit twice -> ``size`` times 16 bits a cell, the lowest of all first.

    Of those the 16 cells from 16 i on lie from byte WIDTH / 4 * (i % 8) + 32 * (i // 8) on.
    """
    halves = size.literal_value

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, planes, count, last, target = arguments
        top, carry = builder.sub(count, constant(1)), last_bit(builder, last)
        bits = []
        for bit in range(16 * halves):  # the highest bit is the sign of all above it
            there = builder.icmp_signed("<", constant(bit), top)
            place = builder.mul(builder.select(there, constant(bit), top), constant(STEP))
            plane = load(builder, planes, place, align=WIDTH // 8)
            bits.append(builder.xor(plane, carry) if bit else plane)
            carry = builder.and_(plane, carry) if bit else carry
        for half in range(halves):
            low, high = (_transposed(builder, bits[k : k + 8]) for k in (16 * half, 16 * half + 8))
            for i, pair in enumerate(zip(low, high, strict=True)):
                for k, part in enumerate(_interleaved(builder, *pair)):
                    store(builder, part, target, (16 * half + 2 * i + k) * STEP, align=WIDTH // 8)
        return context.get_dummy_value()

    return types.void(size, planes, count, last, target), generate


@intrinsic(prefer_literal=True)
def write(_typing: Any, size: Any, source: Any, cells: Any, out: Any, scale: Any, joined: Any, sink: Any) -> Any:
    """Numbers of ``size`` times 16 bits from unpack, scaled, to out.

    cells: first sixteen of them, and the one after the last.
    joined: whether to add to what is there.
    sink: (flip, threshold, bits of the sum's signs, whether anybody wants them).
    """
    halves = size.literal_value

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, source, cells, out, scale, joined, sink = arguments
        first, stop = cgutils.unpack_tuple(builder, cells)
        flip, threshold, bits, wanted = cgutils.unpack_tuple(builder, sink)
        source, factor = builder.bitcast(source, INT8.as_pointer()), spread(builder, scale, FLOATS)

        def sum_of(i: Any) -> Any:
            row = builder.mul(builder.and_(i, constant(7)), constant(WIDTH // 4))
            place = builder.add(row, builder.shl(builder.lshr(i, constant(3)), constant(5)))
            parts = [
                load(builder, source, builder.add(place, constant(2 * WIDTH * half)), SHORTS, align=min(32, WIDTH // 8))
                for half in range(halves)
            ]
            high = builder.sext(parts[-1], COUNTS)
            if halves == 1:
                return high
            return builder.or_(builder.shl(high, splat(16, COUNTS)), builder.zext(parts[0], COUNTS))

        def some(*, add: bool, signs: bool) -> None:
            with cgutils.for_range_slice(builder, first, stop, constant(1)) as (i, _):
                cell = builder.mul(builder.sub(i, first), constant(LANES))
                # Multiplication and addition stay apart, so that every form of the layer gives the same bits.
                value = builder.fmul(builder.sitofp(sum_of(i), FLOATS), factor)
                if add:
                    value = builder.fadd(value, load(builder, out, cell, FLOATS))
                store(builder, value, out, cell)
                if signs:
                    store(builder, _positive(builder, value, flip, threshold), bits, builder.sub(i, first))

        with builder.if_else(builder.trunc(joined, ir.IntType(1))) as (together, alone):
            with together, builder.if_else(builder.trunc(wanted, ir.IntType(1))) as (read, unread):
                with read:
                    some(add=True, signs=True)
                with unread:
                    some(add=True, signs=False)
            with alone:
                some(add=False, signs=False)
        return context.get_dummy_value()

    return types.void(size, source, cells, out, scale, joined, sink), generate


def _positive(builder: Any, value: Any, flip: Any, threshold: Any) -> Any:
    """16 bits: which floats have sign +; see ``Interval.encoded``."""
    turned = builder.xor(builder.bitcast(value, COUNTS), spread(builder, flip, COUNTS))
    turned = builder.bitcast(turned, FLOATS)
    return builder.bitcast(builder.fcmp_ordered(">=", turned, spread(builder, threshold, FLOATS)), INT16)


@intrinsic
def signs(_typing: Any, values: Any, count: Any, flip: Any, threshold: Any, bits: Any) -> Any:
    """Signs of ``count`` times 16 floats."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values, count, flip, threshold, bits = arguments
        with cgutils.for_range(builder, count) as loop:
            value = load(builder, values, builder.mul(loop.index, constant(LANES)), FLOATS)
            store(builder, _positive(builder, value, flip, threshold), bits, loop.index)
        return context.get_dummy_value()

    return types.void(values, count, flip, threshold, bits), generate


kept = compiled(0x5FD269D5, "vectors.py")


# Not in a closure: numba compiles what is made in one anew at every start.
@kept
def pack(x: Any, flip: Any, threshold: Any, halves: Any, lead: int, first: int, last: int) -> None:
    """Signs of channels ``first`` to ``last`` of x (N, C, cells) into planes (N, C', M) uint16, from ``lead`` on."""
    cells = x.shape[2]
    whole = cells // 16
    for n in range(x.shape[0]):
        for c in range(first, last):
            source = (n * x.shape[1] + c) * cells
            target = (n * halves.shape[1] + c) * halves.shape[2] + lead
            signs(at(x, source), whole, flip[c], threshold[c], at(halves, target))
            if cells % 16:
                word = 0
                for i in range(16 * whole, cells):
                    value = x[n, c, i]
                    if (-value if flip[c] else value) >= threshold[c]:
                        word |= 1 << i % 16
                halves[n, c, lead + whole] = word


@kept
def rectify(x: Any, gain: Any, shift: Any, out: Any, first: int) -> None:
    """BatchNorm and ReLU of x (N, C or more, cells) from cell ``first`` on, to out (N, C, some cells)."""
    for n in range(x.shape[0]):
        for c in range(gain.shape[0]):
            for i in range(out.shape[2]):
                out[n, c, i] = max(x[n, c, first + i] * gain[c] + shift[c], np.float32(0))
