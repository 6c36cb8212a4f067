"""What the kernels are written in: vectors of bits, in LLVM's own terms, and the instructions that a processor has.

A vector holds one bit of each of its cells (512, 256 or 128, as the processor has them). All work on bits is and, or
and xor, which every processor has; those with AVX-512 do three operands at once, and turn squares of bits in one
instruction where they have GFNI. All forms give the same bits.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

try:
    from numba import njit, types
    from numba.core import cgutils, config
    from numba.extending import intrinsic as numba_intrinsic
except ImportError as error:  # numba is missing, or will not have this numpy
    raise ImportError(f"binary layers need numba: pip install 'lithepose[binary]' ({error})", name="numba") from error

import llvmlite.binding as llvm
from llvmlite import ir

intrinsic: Any = numba_intrinsic  # what it decorates is called without its first argument

# What NUMBA_CPU_NAME may name; of others only what all have is used.
_GFNI = "icelake-client icelake-server tigerlake rocketlake sapphirerapids emeraldrapids graniterapids znver4 znver5"
_AVX512 = f"skylake-avx512 cascadelake cooperlake {_GFNI}"
_AVX2 = "haswell broadwell skylake alderlake znver1 znver2 znver3"


def instructions() -> tuple[int, bool, bool]:
    """Bits of a vector, whether there are gf2p8affineqb and counts of 32-bit lanes (VPOPCNTDQ) of 512.

    ``NUMBA_CPU_NAME`` names another processor than this one; ``NUMBA_CPU_FEATURES`` must be set with it, if to nothing,
    or those of this processor stay. Without ``NUMBA_ENABLE_AVX``, which numba also sets for some processors, no AVX.
    """
    forced: Any = vars(config)
    if forced["CPU_FEATURES"] is None:
        has = llvm.get_host_cpu_features()
    else:
        name, listed = forced["CPU_NAME"], forced["CPU_FEATURES"].split(",")
        known = {"avx512f": _AVX512, "avx2": _AVX2, "gfni": _GFNI, "avx512vpopcntdq": _GFNI}
        has = {f: f"-{f}" not in listed and (name in names.split() or f"+{f}" in listed) for f, names in known.items()}
    if not forced["ENABLE_AVX"]:
        has = {}
    wide = has.get("avx512f") and has.get("avx512bw", True)
    width = 512 if wide else 256 if has.get("avx2") else 128
    return width, bool(wide and has.get("gfni")), bool(wide and has.get("avx512vpopcntdq"))


# numba freezes these into the compiled kernel; its cache is kept apart by processor and features, as they are.
WIDTH, GFNI, COUNTS_WORDS = instructions()
STEP = WIDTH // 64  # 64-bit words of a vector
CELLS = 512  # a plane of bits is padded to multiples of so many

INT64, INT32, INT16, INT8 = ir.IntType(64), ir.IntType(32), ir.IntType(16), ir.IntType(8)
VECTOR, BYTES = ir.VectorType(INT64, STEP), ir.VectorType(INT8, WIDTH // 8)
LANES = 16  # cells with sums that become floats at one time
COUNTS, SHORTS, FLOATS = ir.VectorType(INT32, LANES), ir.VectorType(INT16, LANES), ir.VectorType(ir.FloatType(), LANES)


def constant(value: int) -> ir.Constant:
    """A 64-bit number."""
    return ir.Constant(INT64, value)


def splat(value: int, kind: ir.VectorType = VECTOR) -> ir.Constant:
    """The same number in all lanes."""
    return ir.Constant(kind, [value] * kind.count)


def spread(builder: Any, value: Any, kind: ir.VectorType) -> Any:
    """The same value in all lanes."""
    nothing = ir.Constant(kind, ir.Undefined)
    first = builder.insert_element(nothing, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(first, nothing, ir.Constant(ir.VectorType(INT32, kind.count), [0] * kind.count))


def load(builder: Any, pointer: Any, index: Any = 0, kind: ir.Type = VECTOR, align: int = 1) -> Any:
    """A vector from an element of ``pointer`` on; counted as the pointer's own."""
    index = constant(index) if isinstance(index, int) else index
    return builder.load(builder.bitcast(builder.gep(pointer, [index]), kind.as_pointer()), align=align)


def store(builder: Any, value: Any, pointer: Any, index: Any = 0, align: int = 1) -> None:
    """The way back."""
    index = constant(index) if isinstance(index, int) else index
    builder.store(value, builder.bitcast(builder.gep(pointer, [index]), value.type.as_pointer()), align=align)


def call(builder: Any, name: str, arguments: list[Any], kind: ir.Type) -> Any:
    """One of LLVM's own functions."""
    function = ir.FunctionType(kind, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def ternary(builder: Any, a: Any, b: Any, c: Any, table: int) -> Any:
    """Any function of three bits, by its value where a b c, read as a number, is 0, 1, ..., 7; AVX-512 alone."""
    return call(builder, "llvm.x86.avx512.pternlog.q.512", [a, b, c, ir.Constant(INT32, table)], VECTOR)


def add(builder: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any]:
    """Three bits' sum: its lower bit and its carry."""
    if WIDTH == 512:
        low = ternary(builder, a, b, c, 0x96)
        # Of b, c and the sum, not of a: so either operation may overwrite what it reads, and nothing has to be moved.
        return low, ternary(builder, b, c, low, 0xD4)
    either = builder.xor(a, b)
    carry = builder.or_(builder.and_(a, b), builder.and_(either, c))
    return builder.xor(either, c), carry


def compiled(made_of: int, *files: str) -> Callable[[Any], Any]:
    """Decorator: machine code, kept for the next process wherever this one may write; see ``NUMBA_CACHE_DIR``.

    numba decides by a function's own file alone whether a cached kernel is out of date. So that file names the
    others beside it that it is made of, and their sum, :func:`sum_of`; where another is right, nothing is kept.
    """

    def decorate(function: Any) -> Any:
        if sum_of(*files) == made_of:
            try:
                return njit(cache=True, nogil=True)(function)
            except RuntimeError:  # neither beside the file nor in the user's folder
                pass
        return njit(nogil=True)(function)

    return decorate


def sum_of(*files: str) -> int:
    """Of the text of files beside this one; 0 where they cannot be read."""
    try:
        return crc32("".join((Path(__file__).parent / name).read_text("utf-8") for name in files).encode())
    except OSError:
        return 0


@intrinsic
def at(_typing: Any, array: Any, offset: Any) -> Any:
    """Pointer to an element of a contiguous array, counted flat."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        return builder.gep(data, [arguments[1]])

    return types.CPointer(array.dtype)(array, types.int64), generate
