"""The compiled code of binary convolution: sums of bits and their loops, compiled by numba.

``bits`` explains the algorithm, ``vectors`` has the basic operations, and ``cells`` converts bits to floats.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .cells import below, unpack, write
from .vectors import (
    INT64,
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
    load,
    splat,
    spread,
    store,
    ternary,
    types,
)

BLOCKS = 16, 32, 64  # groups with choices in the nearest cache at once; selected by ``tiling``
CHOICES = 8  # of a group of three


@intrinsic
def taps(_typing: Any, plane: Any, shifts: Any, masks: Any, stride: Any, count: Any, queue: Any) -> Any:
    """Read the bits of ``count`` taps of a plane, from the bits ``shifts`` on, and write them, masked, to the queue."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        plane, shifts, masks, stride, count, queue = arguments
        with cgutils.for_range(builder, count) as tap:
            shift = builder.load(builder.gep(shifts, [tap.index]))
            first = builder.ashr(shift, constant(6))
            low, high = (load(builder, plane, builder.add(first, constant(i))) for i in range(2))
            by = spread(builder, builder.and_(shift, constant(63)), VECTOR)
            bits = call(builder, f"llvm.fshr.v{STEP}i64", [high, low, by], VECTOR)
            bits = builder.and_(bits, load(builder, masks, builder.mul(tap.index, stride)))
            store(builder, bits, queue, builder.mul(tap.index, constant(STEP)), align=WIDTH // 8)
        return context.get_dummy_value()

    return types.void(plane, shifts, masks, stride, count, queue), generate


@intrinsic(prefer_literal=True)
def choose(_typing: Any, several: Any, queue: Any, count: Any, parities: Any, choices: Any) -> Any:
    """Sums of ``count`` groups of three, for every choice of signs: carries to ``choices``, lower bits to ``parities``.

    In choice p, vector i is flipped if bit i of p is set. Each flip also flips the lower bit, so one of them is enough.
    ``several`` groups (a divisor of count) are read before any is written, because a processor delays a read while a
    write to the same offset in another page is pending.
    """
    literal = several.literal_value

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, queue, count, parities, choices = arguments
        with cgutils.for_range_slice(builder, constant(0), count, constant(literal)) as (group, _):
            first, target = (builder.mul(group, constant(size * STEP)) for size in (3, CHOICES))
            read = [
                load(builder, queue, builder.add(first, constant(STEP * i)), align=WIDTH // 8)
                for i in range(3 * literal)
            ]
            for k in range(literal):
                three, place = read[3 * k : 3 * k + 3], builder.add(group, constant(k))
                lower = add(builder, three[0], three[1], three[2])[0]
                store(builder, lower, parities, builder.mul(place, constant(STEP)), align=WIDTH // 8)
                for p in range(CHOICES):
                    to = builder.add(target, constant((CHOICES * k + p) * STEP))
                    store(builder, _carry(builder, three, p), choices, to, align=WIDTH // 8)
        return context.get_dummy_value()

    return types.void(several, queue, count, parities, choices), generate


def _carry(builder: Any, three: list[Any], choice: int) -> Any:
    """The carry of three vectors, flipped according to a choice."""
    a, b, c = three
    if WIDTH == 512:
        bits = [[(place >> 2 - i & 1) ^ (choice >> i & 1) for i in range(3)] for place in range(8)]
        return ternary(builder, a, b, c, sum((sum(some) >= 2) << place for place, some in enumerate(bits)))
    a, b, c = (builder.not_(vector) if choice >> i & 1 else vector for i, vector in enumerate(three))
    return add(builder, a, b, c)[1]


@intrinsic
def unions(_typing: Any, classes: Any, stride: Any, sets: Any) -> Any:
    """Cells of every subset of eight classes; ``stride`` is the number of words between classes."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        classes, stride, sets = arguments
        store(builder, splat(0), sets, align=WIDTH // 8)
        for bit in range(8):
            cells = load(builder, classes, builder.mul(stride, constant(bit)))
            with cgutils.for_range(builder, constant(1 << bit)) as loop:
                where = builder.mul(loop.index, constant(STEP))
                more = builder.or_(load(builder, sets, where, align=WIDTH // 8), cells)
                store(builder, more, sets, builder.add(where, constant(STEP << bit)), align=WIDTH // 8)
        return context.get_dummy_value()

    return types.void(classes, stride, sets), generate


@intrinsic
def begin(_typing: Any, initial: Any, tables: Any, sets: Any, planes: Any, count: Any) -> Any:
    """Initial value of a sum: for each of its bits, a union per table, and whether all cells are flipped."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        initial, tables, sets, planes, count = arguments

        def byte(where: Any) -> Any:
            return builder.zext(builder.load(builder.gep(initial, [where])), INT64)

        def cells(table: Any, which: Any) -> Any:
            place = builder.mul(builder.add(builder.mul(table, constant(256)), which), constant(STEP))
            return load(builder, sets, place, align=WIDTH // 8)

        def put(index: Any, union: Any, turned: Any) -> None:
            plane = builder.xor(union, spread(builder, builder.sub(constant(0), byte(turned)), VECTOR))
            store(builder, plane, planes, builder.mul(index, constant(STEP)), align=WIDTH // 8)

        one = builder.icmp_signed("==", tables, constant(1))
        with builder.if_else(one) as (single, several):
            with single, cgutils.for_range(builder, count) as loop:
                first = builder.shl(loop.index, constant(1))
                put(loop.index, cells(constant(0), byte(first)), builder.add(first, constant(1)))
            with several, cgutils.for_range(builder, count) as loop:
                first = builder.mul(loop.index, builder.add(tables, constant(1)))
                union = cgutils.alloca_once_value(builder, splat(0))
                with cgutils.for_range(builder, tables) as table:
                    more = cells(table.index, byte(builder.add(first, table.index)))
                    builder.store(builder.or_(builder.load(union), more), union)
                put(loop.index, builder.load(union), builder.add(first, tables))
        return context.get_dummy_value()

    return types.void(initial, tables, sets, planes, count), generate


def _sum(builder: Any, vectors: list[Any], planes: Any) -> Any:
    """Add vectors to a number's lowest bits; returns the carry. The number of vectors must be a power of two.

    A sum is stored as its bits, so each vector costs two operations on average: one for its sum, half of one for the
    carry, and so on. ``vectors`` are functions that load the vectors when they are needed.
    """
    levels, ready = len(vectors).bit_length() - 1, iter(vectors)
    low = [load(builder, planes, STEP * i, align=WIDTH // 8) for i in range(levels)]

    def some(level: int) -> Any:
        if not level:
            return next(ready)()
        low[level - 1], carry = add(builder, low[level - 1], some(level - 1), some(level - 1))
        return carry

    carry = some(levels)
    for i, plane in enumerate(low):
        store(builder, plane, planes, STEP * i, align=WIDTH // 8)
    return carry


@intrinsic(prefer_literal=True)
def absorb(_typing: Any, words: Any, index: Any, choices: Any, planes: Any, carry: Any) -> Any:
    """Add ``words`` choices, a power of two, to the lowest bits of a number; the carry beyond them goes to ``carry``.

    index: selected choice of each group, as a word offset in the group.
    """
    literal = words.literal_value

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, index, choices, planes, carry = arguments

        def vector(group: int) -> Any:
            choice = builder.zext(builder.load(builder.gep(index, [constant(group)])), INT64)
            place = builder.add(choice, constant(group * CHOICES * STEP))
            return load(builder, choices, place, align=WIDTH // 8)

        beyond = _sum(builder, [lambda group=group: vector(group) for group in range(literal)], planes)
        store(builder, beyond, carry, align=WIDTH // 8)
        return context.get_dummy_value()

    return types.void(words, index, choices, planes, carry), generate


@intrinsic(prefer_literal=True)
def settle(_typing: Any, many: Any, carries: Any, planes: Any, count: Any) -> Any:
    """Add ``many`` consecutive carries, a power of two, to a number of ``count`` bits."""
    literal = many.literal_value

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        _, carries, planes, count = arguments
        vectors = [lambda i=i: load(builder, carries, STEP * i, align=WIDTH // 8) for i in range(literal)]
        place = cgutils.alloca_once_value(builder, _sum(builder, vectors, planes))
        with cgutils.for_range_slice(builder, constant(literal.bit_length() - 1), count, constant(1)) as (j, _):
            where, carry = builder.mul(j, constant(STEP)), builder.load(place)
            plane = load(builder, planes, where, align=WIDTH // 8)
            store(builder, builder.xor(plane, carry), planes, where, align=WIDTH // 8)
            builder.store(builder.and_(plane, carry), place)
        return context.get_dummy_value()

    return types.void(many, carries, planes, count), generate


kept = compiled(0x2614EED9, "vectors.py", "cells.py")


# Not in a closure, because numba compiles functions of closures at every start.
@kept
def places(inputs: int, width: int, planes: int, tables: int, block: int) -> tuple[int, ...]:
    """Layout of the scratch memory of a layer by inputs per filter and number of filters, in 64-bit words.

    Returns:
        Offsets after the queue of inputs and lower bits: choices of a block, subsets of border cells, a sum's cells (or
        a carry), carries of blocks, and sums of filters; and the total number of words.
    """
    odd, groups = inputs | 1, inputs // 2  # three become one, so an odd number ends with one
    blocks = -(-groups // 16) * 16 // block
    choices = (odd + groups) * STEP
    subsets = choices + block * CHOICES * STEP
    spare = subsets + tables * 256 * STEP
    carries = spare + 32 * STEP
    sums = carries + width * blocks * STEP
    return choices, subsets, spare, carries, sums, sums + width * planes * STEP


@kept
def choose_block(scratch: Any, inputs: int, choices: int, start: int, stop: int) -> None:
    """Compute choices of groups ``start`` to ``stop`` (0 beyond the last group), and append their lower bits."""
    odd, groups = inputs | 1, inputs // 2
    real = min(stop, groups) - start
    # Group g reads up to input 3 g + 2 and writes after input odd + g - 1. So four groups at once do not read what they
    # write if at least five groups follow.
    fours = max(0, min(real, groups - 6 - start)) // 4 * 4
    lower = odd + start
    choose(4, at(scratch, 3 * start * STEP), fours, at(scratch, lower * STEP), at(scratch, choices))
    three, rest = at(scratch, 3 * (start + fours) * STEP), at(scratch, choices + fours * CHOICES * STEP)
    choose(1, three, real - fours, at(scratch, (lower + fours) * STEP), rest)
    scratch[choices + real * CHOICES * STEP : choices + (stop - start) * CHOICES * STEP] = 0


@kept
def put(planes: int, source: Any, cells: Any, out: Any, scale: Any, joined: bool, sink: Any) -> None:
    """Call ``write`` for sums of ``planes`` bits."""
    if planes <= 16:
        write(1, source, cells, out, scale, joined, sink)
    else:
        write(2, source, cells, out, scale, joined, sink)


@kept
def absorb_block(
    block: int, scratch: Any, channels: tuple[int, int], index: Any, choices: int, first: Any, to: Any
) -> None:
    """Call ``absorb`` for a whole block and some channels; sum and carry: channel 0's word, words per channel."""
    (start, stop), (low, by), (carry, step), there = channels, first, to, at(scratch, choices)
    if block == 64:
        for c in range(start, stop):
            absorb(64, at(index, c * 64), there, at(scratch, low + c * by), at(scratch, carry + c * step))
    elif block == 32:
        for c in range(start, stop):
            absorb(32, at(index, c * 32), there, at(scratch, low + c * by), at(scratch, carry + c * step))
    else:
        for c in range(start, stop):
            absorb(16, at(index, c * 16), there, at(scratch, low + c * by), at(scratch, carry + c * step))


@kept
def convolve(
    scratch: Any,
    first: int,
    last: int,
    act: Any,
    block: int,
    shifts: Any,
    masks: Any,
    index: Any,
    turns: Any,
    initial: Any,
    classes: Any,
    scale: Any,
    out: Any,
    cells: int,
    slot: int,
    joined: bool,
    inner: Any,
    outer: Any,
) -> None:
    """Compute channels ``first`` to ``last`` of a binary convolution; see ``bits`` for the algorithm.

    Args:
        scratch: uint64 words, see :func:`places` for their number; aligned to 64 bytes.
        first: first channel.
        last: channel after the last.
        act: (N, C, M) uint64, planes of signs.
        block: one of :data:`BLOCKS`.
        shifts: (taps,) int64, the bit of a plane that each tap reads for cell 0.
        masks: (taps, M') uint64, cells for which a tap is inside the map, M' words of whole vectors.
        index: (OC * words,) uint8, ordered by block of groups, then by filter: the word offset of the selected choice;
            words is the number of groups, rounded up to a multiple of 16.
        turns: (OC,) int64, all ones if the last lower bit is flipped.
        initial: (OC, bits, tables + 1) uint8, initial sums: for each bit, eight classes of cells per table in which it
            is flipped, and its value elsewhere.
        classes: (8 tables, M') uint64, cells of each class.
        scale: (OC,) float32.
        out: (N, T, cells or more) float32, written from channel ``slot`` on.
        cells: number of cells of the map.
        slot: first output channel.
        joined: add to out, and write the signs of the result.
        inner: (bits of the negative limits (OC, bits) int64, all ones if flipped (OC,) int64, planes (N, OC, M) uint64
            for the signs of the integer sums, first word, whether they are needed).
        outer: (two encoded limits (T,), planes (N, T, M) uint16 for the signs of the values in out, first half word,
            whether they are needed).
    """
    seen, planes, tables, stride = shifts.shape[0], initial.shape[1], initial.shape[2] - 1, masks.shape[1]
    width, inputs = initial.shape[0], act.shape[1] * seen
    words = index.shape[0] // width
    blocks, end = words // block, (inputs | 1) + inputs // 2 - 1  # end of the queue
    choices, subsets, spare, carries, sums, _ = places(inputs, width, planes, tables, block)
    beyond = 6 if block == 16 else 7 if block == 32 else 8  # index of the bit that a block's carry adds to
    limits, flips, inner_bits, inner_lead, inner_wanted = inner
    flip, threshold, outer_bits, outer_lead, outer_wanted = outer
    tail, tail_bits = np.empty(16, np.float32), np.zeros(1, np.uint16)
    for n in range(act.shape[0]):
        for v in range(0, -(-cells // WIDTH) * STEP, STEP):
            # The inputs of the filters, in the order of their weights.
            for c in range(act.shape[1]):
                plane = at(act, (n * act.shape[1] + c) * act.shape[2] + v)
                taps(plane, at(shifts, 0), at(masks, v), stride, seen, at(scratch, c * seen * STEP))
            scratch[inputs * STEP : (inputs | 1) * STEP] = 0
            for k in range(tables):
                unions(at(classes, 8 * k * stride + v), stride, at(scratch, subsets + 256 * k * STEP))
            for channel in range(first, last):
                bits = at(initial, channel * planes * (tables + 1))
                begin(bits, tables, at(scratch, subsets), at(scratch, sums + channel * planes * STEP), planes)
            # The sums, a block of choices at a time.
            for start in range(0, words, block):
                stop = min(start + block, words)
                choose_block(scratch, inputs, choices, start, stop)
                if stop - start == block:
                    low, carry = (sums + 2 * STEP, planes * STEP), (carries + start // block * STEP, blocks * STEP)
                    absorb_block(block, scratch, (first, last), index[width * start :], choices, low, carry)
                    continue
                for channel in range(first, last):
                    number, taken = sums + channel * planes * STEP, width * start + channel * (stop - start)
                    for some in range(0, stop - start, 16):
                        there, carry = at(scratch, choices + some * CHOICES * STEP), at(scratch, spare)
                        absorb(16, at(index, taken + some), there, at(scratch, number + 2 * STEP), carry)
                        settle(1, carry, at(scratch, number + 6 * STEP), planes - 6)
            for channel in range(first, last):
                upper = at(scratch, sums + (channel * planes + beyond) * STEP)
                for i in range(0, blocks - 7, 8):
                    settle(8, at(scratch, carries + (channel * blocks + i) * STEP), upper, planes - beyond)
                for i in range(blocks // 8 * 8, blocks):
                    settle(1, at(scratch, carries + (channel * blocks + i) * STEP), upper, planes - beyond)
            # Signs of the sums, floats, and their signs.
            cell = v // STEP * WIDTH
            full, more = min(WIDTH, cells - cell) // 16, min(WIDTH, cells - cell) % 16
            for channel in range(first, last):
                number, final = at(scratch, sums + channel * planes * STEP), (at(scratch, end * STEP), turns[channel])
                if inner_wanted:
                    to = at(inner_bits, (n * inner_bits.shape[1] + channel) * inner_bits.shape[2] + inner_lead + v)
                    inside = at(masks, seen // 2 * stride + v)
                    below(number, planes, final, at(limits, channel * planes), flips[channel], inside, to)
                if planes <= 16:
                    unpack(1, number, planes, final, at(scratch, spare))
                else:
                    unpack(2, number, planes, final, at(scratch, spare))
                target = slot + channel
                place = (n * out.shape[1] + target) * out.shape[2] + cell
                bits = (n * outer_bits.shape[1] + target) * outer_bits.shape[2] + outer_lead + cell // 16
                sink = (flip[target], threshold[target], at(outer_bits, bits), outer_wanted)
                put(planes, at(scratch, spare), (0, full), at(out, place), scale[channel], joined, sink)
                if more:  # the last sixteen cells, of which only some are used
                    for i in range(more):
                        tail[i] = out[n, target, cell + 16 * full + i]
                    sink = (flip[target], threshold[target], at(tail_bits, 0), outer_wanted)
                    put(planes, at(scratch, spare), (full, full + 1), at(tail, 0), scale[channel], joined, sink)
                    for i in range(more):
                        out[n, target, cell + 16 * full + i] = tail[i]
                    if joined and outer_wanted:
                        outer_bits[n, target, outer_lead + cell // 16 + full] = tail_bits[0] & (1 << more) - 1


@kept
def run(layers: Any, scratch: Any) -> None:
    """Run several convolutions in order; ``layers`` is a tuple of the arguments of ``convolve`` after ``last``.

    All run in one call, because threads wait for each other whenever they return to the interpreter.
    """
    for i in range(len(layers)):
        convolve(scratch, 0, layers[i][5].shape[0], *layers[i])
