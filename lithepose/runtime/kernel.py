"""The machine code of binary convolution: vectors in LLVM's own terms and the loops around them, compiled by numba.

What numba makes of plain loops keeps the counts in memory and is several times slower. There are two forms of the same
sums. Where the processor counts ones in 32-bit lanes (AVX-512 with VPOPCNTDQ) a lane is an output channel. Elsewhere
ones are counted a byte at a time, by a table of nibbles (AVX2) or the processor's own instruction (ARM), and the four
bytes of a lane are added before they can overflow.

All of it is in one file, because numba looks at a function's own file alone to tell whether its cache is out of date.
"""

from __future__ import annotations

from typing import Any

import numpy as np

try:
    from numba import njit, types
    from numba.core import cgutils, config
    from numba.extending import intrinsic as numba_intrinsic
except ImportError as error:  # numba is missing, or will not have this numpy
    raise ImportError(f"binary layers need numba: pip install 'lithepose[binary]' ({error})", name="numba") from error

import llvmlite.binding as llvm
from llvmlite import ir

intrinsic: Any = numba_intrinsic  # what it decorates is called without its first argument
LANES = 16  # output channels in one vector of 32-bit counts
INT64, INT32, INT16, INT8 = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.IntType(8)
COUNTS, BYTES = ir.VectorType(INT32, LANES), ir.VectorType(INT8, 4 * LANES)
FLOATS = ir.VectorType(ir.FloatType(), LANES)

_VPOPCNTDQ = (
    "icelake-client icelake-server tigerlake rocketlake sapphirerapids emeraldrapids graniterapids znver4 znver5"
)


def counts_words() -> bool:
    """Whether the processor that numba compiles for counts ones in 32-bit lanes; ``NUMBA_CPU_NAME`` names another.

    ``NUMBA_CPU_FEATURES`` must be set with it, if to nothing, or those of this processor stay.
    """
    forced: Any = vars(config)
    if forced["CPU_FEATURES"] is not None:
        features = forced["CPU_FEATURES"].split(",")
        return "+avx512vpopcntdq" in features or forced["CPU_NAME"] in _VPOPCNTDQ.split()
    return bool(llvm.get_host_cpu_features().get("avx512vpopcntdq"))


# numba freezes these into the compiled kernel; its cache is kept apart by processor and features, as they are.
WORDS = counts_words()
MOST = 4 if WORDS else 1  # vectors of output channels in one tile
# Pixels of a tile by its vectors: (pixels + 1) * vectors + 1 registers of 32, or of 16 half as wide, must do.
AT_FOUR, AT_TWO, AT_ONE = (5, 8, 8) if WORDS else (1, 1, 4)
BURST = 12 if WORDS else 4  # sums, with a filter each, in the calibration


def _number(value: int) -> ir.Constant:
    return ir.Constant(INT64, value)


def _splat(value: int, kind: ir.VectorType = COUNTS) -> ir.Constant:
    return ir.Constant(kind, [value] * kind.count)


def compiled(function: Any) -> Any:
    """Machine code, kept for the next process wherever this one may write; see ``NUMBA_CACHE_DIR``."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:  # neither beside this file nor in the user's folder
        return njit(nogil=True)(function)


@intrinsic
def at(_typing: Any, array: Any, offset: Any) -> Any:
    """Pointer to an element of a contiguous array, counted flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate


def _load(builder: Any, pointer: Any, index: Any, kind: ir.Type = COUNTS) -> Any:
    return builder.load(builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer()), align=4)


def _count(builder: Any, words: Any) -> Any:
    """Ones of a vector, by lane or by byte."""
    kind = COUNTS if WORDS else BYTES
    name = f"llvm.ctpop.v{kind.count}i{kind.element.width}"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), name)
    return builder.call(function, [words if WORDS else builder.bitcast(words, BYTES)])


def _widen(builder: Any, counts: Any) -> Any:
    """Counts by lane; bytes are added in fours."""
    if WORDS:
        return counts
    lanes, low = builder.bitcast(counts, COUNTS), _splat(0x00FF00FF)
    pairs = builder.add(builder.and_(lanes, low), builder.and_(builder.lshr(lanes, _splat(8)), low))
    return builder.add(builder.and_(pairs, _splat(0xFFFF)), builder.lshr(pairs, _splat(16)))


def _broadcast(builder: Any, word: Any) -> Any:
    nothing = ir.Constant(COUNTS, ir.Undefined)
    return builder.shuffle_vector(builder.insert_element(nothing, word, ir.Constant(INT32, 0)), nothing, _splat(0))


def _store(builder: Any, value: Any, pointer: Any, index: Any) -> None:
    target = builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer())
    builder.store(value, target, align=2 if value.type == INT16 else 4)


def _positive(builder: Any, value: Any, limits: tuple[Any, Any], index: Any) -> Any:
    """16 bits: which of the lanes have sign +, by one comparison; see ``Interval.encoded``."""
    if value.type == COUNTS:
        low, length = (_load(builder, limit, index) for limit in limits)
        return builder.bitcast(builder.icmp_unsigned("<", builder.sub(value, low), length), INT16)
    flip, threshold = _load(builder, limits[0], index), _load(builder, limits[1], index, FLOATS)
    turned = builder.bitcast(builder.xor(builder.bitcast(value, COUNTS), flip), FLOATS)
    return builder.bitcast(builder.fcmp_ordered(">=", turned, threshold), INT16)


@intrinsic(prefer_literal=True)
def tile(_typing: Any, pixels: Any, vectors: Any, window: Any, correction: Any, plain: Any, fused: Any) -> Any:
    """``pixels`` neighbours in a row by ``16 * vectors`` output channels, all counts in registers.

    window: (activations, words a row, filters, kernel, words a kernel's row, words a pixel).
    correction: (of this row and these channels, offsets of the columns).
    plain: (scale, out, floats a pixel).
    fused: (whether to add to what is there, two limits, bits and words a pixel of the next layer in the chain, and the
        four of what reads the sum); signs that nobody reads have no words.
    """
    count, wide = pixels.literal_value, vectors.literal_value
    lanes = [(p, q) for p in range(count) for q in range(wide)]

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        window, correction, plain, fused = (cgutils.unpack_tuple(builder, a) for a in arguments[2:])
        sums = _sums(builder, count, wide, window)
        correct, columns = correction
        scale, out, stride = plain
        whether, *sinks = fused
        inner, outer = sinks[:4], sinks[4:]
        dots = {}
        for p, q in lanes:
            place = builder.add(builder.load(builder.gep(columns, [_number(p)])), _number(LANES * q))
            dots[p, q] = builder.sub(_load(builder, correct, place), builder.shl(builder.load(sums[p][q]), _splat(1)))

        def wanted(sink: Any) -> Any:
            return builder.icmp_signed("!=", sink[3], _number(0))

        def sign(p: int, q: int, value: Any, sink: Any) -> None:
            place = builder.add(builder.mul(sink[3], _number(p)), _number(q))
            _store(builder, _positive(builder, value, sink[:2], _number(LANES * q)), sink[2], place)

        def finish(*, joined: bool, signs: bool = False) -> None:
            for p, q in lanes:
                # Multiplication and addition stay apart, so that every form of the layer gives the same bits.
                factor = _load(builder, scale, _number(LANES * q), FLOATS)
                value = builder.fmul(builder.sitofp(dots[p, q], FLOATS), factor)
                index = builder.add(builder.mul(stride, _number(p)), _number(LANES * q))
                if joined:
                    value = builder.fadd(value, _load(builder, out, index, FLOATS))
                _store(builder, value, out, index)
                if signs:
                    sign(p, q, value, outer)

        with builder.if_then(wanted(inner)):
            for p, q in lanes:
                sign(p, q, dots[p, q], inner)
        with builder.if_else(builder.trunc(whether, ir.IntType(1))) as (joined, alone):
            with joined, builder.if_else(wanted(outer)) as (read, unread):
                with read:
                    finish(joined=True, signs=True)
                with unread:
                    finish(joined=True)
            with alone:
                finish(joined=False)
        return context.get_dummy_value()

    return types.void(pixels, vectors, window, correction, plain, fused), generate


def _sums(builder: Any, pixels: int, vectors: int, window: list[Any]) -> list[list[Any]]:
    """Places of the counts of differing bits, [pixel][vector]."""
    act, row, weight, kernel, span, step = window
    sums = [[cgutils.alloca_once_value(builder, _splat(0)) for _ in range(vectors)] for _ in range(pixels)]
    zero = _splat(0) if WORDS else _splat(0, BYTES)
    some = sums if WORDS else [[cgutils.alloca_once_value(builder, zero) for _ in line] for line in sums]
    place = cgutils.alloca_once_value(builder, weight)

    def words(base: Any, first: Any, stop: Any) -> None:
        with cgutils.for_range(builder, stop, first) as word:
            here = builder.load(place)
            filters = [_load(builder, here, _number(LANES * q)) for q in range(vectors)]
            builder.store(builder.gep(here, [_number(LANES * vectors)]), place)
            for p in range(pixels):
                bits = builder.load(builder.gep(base, [builder.add(word.index, builder.mul(step, _number(p)))]))
                spread = _broadcast(builder, bits)
                for q in range(vectors):
                    differ = _count(builder, builder.xor(spread, filters[q]))
                    builder.store(builder.add(builder.load(some[p][q]), differ), some[p][q])

    with cgutils.for_range(builder, kernel) as line:
        base = builder.gep(act, [builder.mul(line.index, row)])
        if WORDS:
            words(base, _number(0), span)
        else:
            with cgutils.for_range_slice(builder, _number(0), span, _number(31)) as (first, _):  # 31 * 8 < 256
                after = builder.add(first, _number(31))
                words(base, first, builder.select(builder.icmp_signed("<", after, span), after, span))
                for p in range(pixels):
                    for q in range(vectors):
                        more = _widen(builder, builder.load(some[p][q]))
                        builder.store(builder.add(builder.load(sums[p][q]), more), sums[p][q])
                        builder.store(zero, some[p][q])
    return sums


@intrinsic
def sixteen(_typing: Any, values: Any, flip: Any, threshold: Any, bits: Any) -> Any:
    """Signs of 16 floats."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        values, flip, threshold, bits = arguments
        zero = _number(0)
        _store(builder, _positive(builder, _load(builder, values, zero, FLOATS), (flip, threshold), zero), bits, zero)
        return context.get_dummy_value()

    return types.void(values, flip, threshold, bits), generate


@intrinsic
def burst_of(_typing: Any, rounds: Any, data: Any, out: Any) -> Any:
    """Xor, count and add, as fast as they go: all in registers, every sum on its own."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rounds, data, out = arguments
        zero = _splat(0) if WORDS else _splat(0, BYTES)
        sums = [cgutils.alloca_once_value(builder, zero) for _ in range(BURST)]
        filters = [_load(builder, data, _number(LANES * i)) for i in range(BURST)]
        moving = cgutils.alloca_once_value(builder, _load(builder, data, _number(LANES * BURST)))
        with cgutils.for_range(builder, rounds):
            word = builder.add(builder.load(moving), _splat(0x9E3779B9))
            builder.store(word, moving)
            for place, bits in zip(sums, filters, strict=True):
                builder.store(builder.add(builder.load(place), _count(builder, builder.xor(word, bits))), place)
        total = builder.load(sums[0])
        for place in sums[1:]:
            total = builder.add(total, builder.load(place))
        total = builder.bitcast(total, COUNTS)
        builder.store(total, builder.bitcast(out, COUNTS.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.void(rounds, data, out), generate


# All at the top of the file: numba compiles functions that are made in a closure anew at every start.
@compiled
def pack(x: Any, flip: Any, threshold: Any, bits: Any, first: int, last: int) -> None:
    """Signs of rows ``first`` to ``last`` of x (N, H, W, C) into bits (N, H + 2b, W + 2b, S) uint16.

    Channels beyond the limits' (C',) int32 and float32 are left alone.
    """
    pictures, height, width, channels = x.shape
    border, used = (bits.shape[1] - height) // 2, flip.shape[0]
    for n in range(pictures):
        for y in range(first, last):
            for column in range(width):
                source = ((n * height + y) * width + column) * channels
                target = ((n * bits.shape[1] + y + border) * bits.shape[2] + column + border) * bits.shape[3]
                for c in range(used // 16):
                    limits = at(flip, 16 * c), at(threshold, 16 * c)
                    sixteen(at(x, source + 16 * c), limits[0], limits[1], at(bits, target + c))
                if used % 16:
                    word = 0
                    for c in range(used // 16 * 16, used):
                        value = x[n, y, column, c]
                        if (-value if flip[c] else value) >= threshold[c]:
                            word |= 1 << c % 16
                    bits[n, y + border, column + border, used // 16] = word


@compiled
def convolve(
    act: Any,
    kernel: int,
    lanes: Any,
    correct: Any,
    rows: Any,
    columns: Any,
    scale: Any,
    out: Any,
    slot: int,
    joined: bool,
    inner: Any,
    outer: Any,
    first: int,
    last: int,
) -> None:
    """Rows ``first`` to ``last`` of a binary convolution.

    Args:
        act: (N, H + 2b, W + 2b, S) uint32, signs with a border of b = kernel // 2 zeros.
        kernel: side of the square filter.
        lanes: (blocks, kernel * kernel * S, 16 Q) uint32, signs of the filters.
        correct: (classes, channels out) int32, taps less what padding counts too much.
        rows: (H,) int64, where in ``correct`` a row's classes begin.
        columns: (W,) int64, where after that a column's class is.
        scale: (channels out,) float32.
        out: (N, H, W, T) float32, written from channel ``slot`` on.
        slot: multiple of 16.
        joined: add to what out holds, and write the signs of the sum.
        inner: (two limits, bits, words): the integer sums' encoded intervals, (N, H + 2b', W + 2b', S') uint16 for the
            signs, and S', or 0 if nobody reads them.
        outer: the same for what is written to out, from channel ``slot`` on.
        first: row.
        last: row after the last.
    """
    pictures, height, width, total = out.shape
    step = act.shape[3]
    row, span = act.shape[2] * step, kernel * step
    vectors = lanes.shape[2] // 16
    several = AT_FOUR if vectors == 4 else AT_TWO if vectors == 2 else AT_ONE
    inner_one, inner_two, inner_bits, inner_step = inner
    outer_one, outer_two, outer_bits, outer_step = outer
    inner_border, outer_border = (inner_bits.shape[1] - height) // 2, (outer_bits.shape[1] - height) // 2
    for n in range(pictures):
        for block in range(lanes.shape[0]):
            channel = 16 * vectors * block
            weight, scales = at(lanes, channel * kernel * span), at(scale, channel)
            near = at(inner_one, channel), at(inner_two, channel)
            far = at(outer_one, slot + channel), at(outer_two, slot + channel)
            for y in range(first, last):
                corrections = at(correct, rows[y] + channel)
                x = 0
                while x < width:
                    here = (n * act.shape[1] + y) * act.shape[2] + x
                    window = (at(act, here * step), row, weight, kernel, span, step)
                    correction = (corrections, at(columns, x))
                    place = ((n * height + y) * width + x) * total + slot + channel
                    plain = (scales, at(out, place), total)
                    inside = (n * inner_bits.shape[1] + y + inner_border) * inner_bits.shape[2] + x + inner_border
                    outside = (n * outer_bits.shape[1] + y + outer_border) * outer_bits.shape[2] + x + outer_border
                    inner_at = at(inner_bits, inside * inner_step + channel // 16)
                    outer_at = at(outer_bits, outside * outer_step + (slot + channel) // 16)
                    sinks = (joined, near[0], near[1], inner_at, inner_step, far[0], far[1], outer_at, outer_step)
                    if x + several > width:
                        if vectors == 4:
                            tile(1, 4, window, correction, plain, sinks)
                        elif vectors == 2:
                            tile(1, 2, window, correction, plain, sinks)
                        else:
                            tile(1, 1, window, correction, plain, sinks)
                        x += 1
                    else:
                        if vectors == 4:
                            tile(AT_FOUR, 4, window, correction, plain, sinks)
                        elif vectors == 2:
                            tile(AT_TWO, 2, window, correction, plain, sinks)
                        else:
                            tile(AT_ONE, 1, window, correction, plain, sinks)
                        x += several


@compiled
def run(layers: Any, first: int, last: int) -> None:
    """Several convolutions, one after the other: a tuple of what ``convolve`` takes before its rows.

    One call for all of them, because threads wait for one another whenever they come back to the interpreter.
    """
    for i in range(len(layers)):
        a = layers[i]
        convolve(a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], first, last)


@compiled
def rectify(x: Any, gain: Any, shift: Any, out: Any, first: int) -> None:
    """BatchNorm and ReLU of x (N, H, W, C or more) from row ``first`` on, to out (N, rows, W, C)."""
    for n in range(x.shape[0]):
        for y in range(out.shape[1]):
            for column in range(x.shape[2]):
                for c in range(gain.shape[0]):
                    out[n, y, column, c] = max(x[n, first + y, column, c] * gain[c] + shift[c], np.float32(0))


@compiled
def burst(rounds: int, data: Any, out: Any) -> None:
    """``rounds * BURST`` times 512 xors, counts and adds: what the processor can do at most.

    Args:
        rounds: of the loop.
        data: (BURST + 1, 16) uint32, anything.
        out: (16,) uint32, what came of it.
    """
    burst_of(rounds, at(data, 0), at(out, 0))
