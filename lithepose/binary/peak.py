"""Peak rates of the operations of binary convolutions, in registers only, as a reference."""

from __future__ import annotations

from typing import Any

from .vectors import (
    COUNTS_WORDS,
    INT8,
    INT32,
    STEP,
    VECTOR,
    WIDTH,
    add,
    at,
    call,
    cgutils,
    compiled,
    intrinsic,
    ir,
    load,
    splat,
    store,
    types,
)

BURST = 8  # number of independent sums at once
# Bits are counted in 32-bit lanes if the processor supports it (AVX-512 with VPOPCNTDQ), otherwise in bytes.
COUNTING = ir.VectorType(INT32, WIDTH // 32) if COUNTS_WORDS else ir.VectorType(INT8, WIDTH // 8)


@intrinsic
def adders(_typing: Any, rounds: Any, data: Any, out: Any) -> Any:
    """Sums of three vectors: lower bits are kept, carries go into the next sum."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rounds, data, out = arguments
        third = load(builder, data)
        pairs = [
            [cgutils.alloca_once_value(builder, load(builder, data, STEP * (i + k))) for k in range(2)]
            for i in range(BURST)
        ]
        with cgutils.for_range(builder, rounds):
            for pair in pairs:
                lower, carry = map(builder.load, pair)
                for place, value in zip(pair, add(builder, lower, carry, third), strict=True):
                    builder.store(value, place)
        _all(builder, [place for pair in pairs for place in pair], out)
        return context.get_dummy_value()

    return types.void(rounds, data, out), generate


@intrinsic
def counters(_typing: Any, rounds: Any, data: Any, out: Any) -> Any:
    """Xor with a changing word, count, add."""

    def generate(context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        rounds, data, out = arguments
        sums = [cgutils.alloca_once_value(builder, ir.Constant(VECTOR, None)) for _ in range(BURST)]
        filters = [load(builder, data, STEP * i) for i in range(BURST)]
        moving = cgutils.alloca_once_value(builder, load(builder, data, STEP * BURST))
        name = f"llvm.ctpop.v{COUNTING.count}i{COUNTING.element.width}"
        with cgutils.for_range(builder, rounds):
            word = builder.add(builder.load(moving), splat(0x1E3779B97F4A7C15))
            builder.store(word, moving)
            for place, bits in zip(sums, filters, strict=True):
                ones = call(builder, name, [builder.bitcast(builder.xor(word, bits), COUNTING)], COUNTING)
                more = builder.add(builder.bitcast(builder.load(place), COUNTING), ones)
                builder.store(builder.bitcast(more, VECTOR), place)
        _all(builder, sums, out)
        return context.get_dummy_value()

    return types.void(rounds, data, out), generate


def _all(builder: Any, places: list[Any], out: Any) -> None:
    """Combine all results, so that the compiler does not remove any."""
    total = ir.Constant(VECTOR, None)
    for place in places:
        total = builder.xor(total, builder.load(place))
    store(builder, total, out)


kept = compiled(0x5FD269D5, "vectors.py")


@kept
def burst(counting: bool, rounds: int, data: Any, out: Any) -> None:
    """Run ``rounds * BURST`` sums of three vectors, or as many times xor, count and add.

    Args:
        counting: run xor, count and add.
        rounds: rounds of the loop.
        data: (BURST + 1 vectors,) uint64, any values.
        out: (a vector,) uint64, the combined result.
    """
    if counting:
        counters(rounds, at(data, 0), at(out, 0))
    else:
        adders(rounds, at(data, 0), at(out, 0))
