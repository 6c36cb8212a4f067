"""The machine code of binary convolution: sums of bits and the loops around them, compiled by numba.

``bits`` tells what is computed; ``vectors`` has the words that this is written in, ``cells`` how bits become floats.
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

BLOCK = 32  # groups whose choices lie in the nearest cache at one time
BEYOND = 2 + BLOCK.bit_length() - 1  # bit of a sum that a block's carry adds to
CHOICES = 8  # of a group of three


@intrinsic
def taps(_typing: Any, plane: Any, shifts: Any, masks: Any, stride: Any, count: Any, queue: Any) -> Any:
    """What ``count`` taps read of a plane, from the bit ``shifts`` on, and their masks, to the queue."""

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
    """Sums of ``count`` threes, for every choice of signs: carries to ``choices``, lower bits to ``parities``.

    Choice p has vector i turned where bit i of p is set. The lower bit is turned with every one of them, so one is
    enough. ``several``, which divides the count, are read before any is written: a processor holds a read back while
    a write to the same place of another page is under way.
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
    """Of three vectors, turned as a choice says."""
    if WIDTH == 512:
        bits = [[(at >> 2 - i & 1) ^ (choice >> i & 1) for i in range(3)] for at in range(8)]
        return ternary(builder, *three, sum((sum(b) >= 2) << at for at, b in enumerate(bits)))
    a, b, c = (builder.not_(v) if choice >> i & 1 else v for i, v in enumerate(three))
    return add(builder, a, b, c)[1]


@intrinsic
def unions(_typing: Any, classes: Any, stride: Any, sets: Any) -> Any:
    """Cells of every subset of eight classes, ``stride`` words from one class to the next."""

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
    """What a sum begins with: for each of its bits a union a table, and whether all is turned."""

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
                builder.store(splat(0), union)
                with cgutils.for_range(builder, tables) as table:
                    more = cells(table.index, byte(builder.add(first, table.index)))
                    builder.store(builder.or_(builder.load(union), more), union)
                put(loop.index, builder.load(union), builder.add(first, tables))
        return context.get_dummy_value()

    return types.void(initial, tables, sets, planes, count), generate


def _sum(builder: Any, vectors: list[Any], planes: Any) -> Any:
    """Add vectors, as many as a power of two, to a number's lowest bits; returns the carry beyond those.

    A sum is kept as its bits, so a vector more costs two operations: one of three vectors' sum, half the time one more
    for its carry, and so on. ``vectors`` are functions that load them when they are needed.
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
    """Add ``words`` choices, a power of two, to the lowest bits of a number; what is beyond them goes to ``carry``.

    index: which of the choices of a group each is, by the words before it.
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
    """Add ``many`` carries in a row, a power of two, to a number of ``count`` bits."""
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


kept = compiled(0xF7B82C3C, "vectors.py", "cells.py")


# Not in a closure: numba compiles what is made in one anew at every start.
@kept
def convolve(
    scratch: Any,
    first: int,
    last: int,
    act: Any,
    shifts: Any,
    masks: Any,
    index: Any,
    groups: int,
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
    """Channels ``first`` to ``last`` of a binary convolution; ``bits`` tells how.

    Args:
        scratch: uint64 words, :func:`room` tells how many; begins at a multiple of 64 bytes.
        first: channel.
        last: channel after the last.
        act: (N, C, M) uint64, planes of signs.
        shifts: (taps,) int64, the bit of a plane that a tap of cell 0 reads.
        masks: (taps, M') uint64, where a tap is inside the map, M' words of whole vectors.
        index: (OC * words,) uint8, a block of groups after another, in it a filter after another: the word that its
            choice begins at; words is a multiple of 16.
        groups: of three, as many as there are words but for those that fill up.
        turns: (OC,) int64, all ones where the last lower bit is turned.
        initial: (OC, bits, tables) uint8, bits of what the sums begin with, for eight classes of cells a table.
        classes: (8 tables, M') uint64, where a cell is of a class.
        scale: (OC,) float32.
        out: (N, T, cells or more) float32, written from channel ``slot`` on.
        cells: of the map.
        slot: channel.
        joined: add to what out holds, and write the signs of the sum.
        inner: (bits of minus the limits (OC, bits) int64, all ones where turned (OC,) int64, planes (N, OC, M) uint64
            for the signs of the integer sums, word that they begin at, whether anybody wants them).
        outer: (two encoded limits (T,), planes (N, T, M) uint16 for the signs of what is written to out, half word that
            they begin at, whether anybody wants them).
    """
    seen, planes, tables = shifts.shape[0], initial.shape[1], initial.shape[2] - 1
    width, words = initial.shape[0], index.shape[0] // initial.shape[0]
    inputs = act.shape[1] * seen
    odd = inputs + 1 - inputs % 2
    queue, choices = 0, (odd + groups) * STEP
    subsets = choices + BLOCK * CHOICES * STEP
    bytes_ = subsets + tables * 256 * STEP
    carries = bytes_ + 32 * STEP
    sums, blocks = carries + width * (words // BLOCK) * STEP, words // BLOCK
    limits, flips, inner_bits, inner_lead, inner_wanted = inner
    outer_flip, outer_threshold, outer_bits, outer_lead, outer_wanted = outer
    tail = np.empty(16, np.float32)
    tail_bits = np.zeros(1, np.uint16)
    for n in range(act.shape[0]):
        for v in range(0, -(-cells // WIDTH) * STEP, STEP):
            # What the filters read, in the order of their weights; lower bits of groups follow.
            for c in range(act.shape[1]):
                plane = at(act, (n * act.shape[1] + c) * act.shape[2] + v)
                taps(plane, at(shifts, 0), at(masks, v), masks.shape[1], seen, at(scratch, queue + c * seen * STEP))
            scratch[queue + inputs * STEP : queue + odd * STEP] = 0
            for k in range(tables):
                unions(
                    at(classes, 8 * k * classes.shape[1] + v), classes.shape[1], at(scratch, subsets + 256 * k * STEP)
                )
            for channel in range(first, last):
                bits = at(initial, channel * planes * (tables + 1))
                begin(bits, tables, at(scratch, subsets), at(scratch, sums + channel * planes * STEP), planes)
            for start in range(0, words, BLOCK):
                stop = min(start + BLOCK, words)
                real = min(stop, groups) - start
                three, lower = at(scratch, queue + 3 * start * STEP), at(scratch, queue + (odd + start) * STEP)
                # Fours read nothing that they write while eight inputs more than groups are left.
                fours = max(0, min(real, groups - 6 - start)) // 4 * 4
                choose(4, three, fours, lower, at(scratch, choices))
                three, lower = (
                    at(scratch, queue + 3 * (start + fours) * STEP),
                    at(scratch, queue + (odd + start + fours) * STEP),
                )
                choose(1, three, real - fours, lower, at(scratch, choices + fours * CHOICES * STEP))
                scratch[choices + real * CHOICES * STEP : choices + (stop - start) * CHOICES * STEP] = 0
                for channel in range(first, last):
                    number = at(scratch, sums + (channel * planes + 2) * STEP)
                    taken = width * start + channel * (stop - start)
                    if stop - start == BLOCK:
                        carry = at(scratch, carries + (channel * blocks + start // BLOCK) * STEP)
                        absorb(BLOCK, at(index, taken), at(scratch, choices), number, carry)
                    else:
                        for some in range(0, stop - start, 16):
                            there, carry = at(scratch, choices + some * CHOICES * STEP), at(scratch, bytes_)
                            absorb(16, at(index, taken + some), there, number, carry)
                            settle(1, carry, at(scratch, sums + (channel * planes + 6) * STEP), planes - 6)
            cell = v // STEP * WIDTH
            full = min(WIDTH, cells - cell) // 16
            more = min(WIDTH, cells - cell) % 16
            for channel in range(first, last):
                upper = at(scratch, sums + (channel * planes + BEYOND) * STEP)
                for block in range(0, blocks - 7, 8):
                    settle(8, at(scratch, carries + (channel * blocks + block) * STEP), upper, planes - BEYOND)
                for block in range(blocks // 8 * 8, blocks):
                    settle(1, at(scratch, carries + (channel * blocks + block) * STEP), upper, planes - BEYOND)
            for channel in range(first, last):
                number = at(scratch, sums + channel * planes * STEP)
                final = (at(scratch, queue + (odd + groups - 1) * STEP), turns[channel])
                if inner_wanted:
                    to = at(inner_bits, (n * inner_bits.shape[1] + channel) * inner_bits.shape[2] + inner_lead + v)
                    inside = at(masks, seen // 2 * masks.shape[1] + v)
                    below(number, planes, final, at(limits, channel * planes), flips[channel], inside, to)
                target = slot + channel
                place = (n * out.shape[1] + target) * out.shape[2] + cell
                bits = (n * outer_bits.shape[1] + target) * outer_bits.shape[2] + outer_lead + cell // 16
                sink = (outer_flip[target], outer_threshold[target], at(outer_bits, bits), outer_wanted)
                spare = (outer_flip[target], outer_threshold[target], at(tail_bits, 0), outer_wanted)
                room = at(scratch, bytes_)
                if planes <= 16:
                    unpack(1, number, planes, final, room)
                    write(1, room, (0, full), at(out, place), scale[channel], joined, sink)
                else:
                    unpack(2, number, planes, final, room)
                    write(2, room, (0, full), at(out, place), scale[channel], joined, sink)
                if more:
                    for i in range(more):
                        tail[i] = out[n, target, cell + 16 * full + i]
                    if planes <= 16:
                        write(1, room, (full, full + 1), at(tail, 0), scale[channel], joined, spare)
                    else:
                        write(2, room, (full, full + 1), at(tail, 0), scale[channel], joined, spare)
                    for i in range(more):
                        out[n, target, cell + 16 * full + i] = tail[i]
                    if joined and outer_wanted:
                        outer_bits[n, target, outer_lead + cell // 16 + full] = tail_bits[0] & (1 << more) - 1


@kept
def run(layers: Any, scratch: Any) -> None:
    """Several convolutions, one after the other: a tuple of what ``convolve`` takes after ``last``.

    One call for all of them, because threads wait for one another whenever they come back to the interpreter.
    """
    for i in range(len(layers)):
        convolve(scratch, 0, layers[i][5].shape[0], *layers[i])


def room(inputs: int, width: int, planes: int, tables: int) -> int:
    """Words that ``convolve`` needs beside what it is given, for layers of so many taps times channels and filters."""
    odd = inputs + 1 - inputs % 2
    blocks = -(-(odd // 2) // 16) * 16 // BLOCK
    return STEP * (odd + odd // 2 + BLOCK * CHOICES + tables * 256 + 32 + width * (blocks + planes))
