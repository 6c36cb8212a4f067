"""lithepose benchmark"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

from rich.progress import track
from rich.table import Table

from ..errors import ConfigError
from .calls.console import OK, err_console, missing, out_console
from .calls.files import check_output, keep_inputs, parse_size


def benchmark(
    models: tuple[str, ...],
    /,
    binary: bool = False,
    image: Path | None = None,
    size: str = "",
    people: int = 0,
    runtime: tuple[Literal["auto", "onnx", "openvino", "torch"], ...] = ("auto",),
    device: Literal["cpu", "cuda", "tensorrt", "coreml", "directml"] = "cpu",
    precision: tuple[Literal["fp32", "bf16", "int8"], ...] = (),
    compare: tuple[Path, ...] = (),
    threads: int = 0,
    rounds: int = 50,
    only: Literal["all", "layers", "networks"] = "all",
    out: Path | None = None,
) -> int:
    """Measure the time per image, part by part, or compare binary convolutions with the layers that they replace.

    In every round, all parts of all models run in turn. The table contains medians, and the median over the rounds of
    the ratio to the first row.

    Examples:
        lithepose benchmark lithe lithe_paf --threads 1 --out times.csv
        lithepose benchmark lithe --runtime onnx openvino --precision fp32 int8
        lithepose benchmark --compare other.onnx --size 640

    Args:
        models: names of embedded models, or files. Default: lithe.
        binary: measure binary layers, modules and complete networks instead of models.
        image: image to run on. Default: the embedded one.
        size: longer side of the network's input, or HEIGHTxWIDTH, to which the image is resized. Default: the model's
            own.
        people: for networks on person crops, number of crops per call. Default: the people found in the image.
        runtime: runtime of the models, one or several. auto is OpenVINO on x86 where it is installed, else ONNX
            Runtime.
        device: device for ONNX Runtime.
        precision: fp32, bf16 (OpenVINO) or int8, one or several. Default: the precision of the files.
        compare: ONNX files of other networks, measured in the same run with ONNX Runtime, on noise of their input
            shape. Dynamic sides are set to --size, or to 640.
        threads: threads of the network; 0 uses one per core. Binary layers and modules are measured on one thread.
        rounds: number of rounds; medians are printed.
        only: with --binary, which tables to measure.
        out: .csv file for the table.
    """
    if rounds < 1 or threads < 0:
        raise ConfigError(f"--rounds {rounds}, --threads {threads}: rounds must be 1 or more, and threads 0 or more")
    if only != "all" and not binary:
        raise ConfigError(f"--only {only}: only works with --binary")
    plain = runtime == ("auto",) and device == "cpu" and not (people or precision or compare)
    if binary and (models or image or size or not plain):
        raise ConfigError(
            "--binary measures its own networks; omit models, --image, --size, --people, --compare, --runtime, --device"
            " and --precision"
        )
    longer, shape = _size(size)
    if people < 0:
        raise ConfigError(f"--people {people}: must be 1 or more, or 0 for the people found in the image")
    if out:
        check_output(out, "--out")
        if out.suffix.lower() != ".csv":
            raise ConfigError(f"--out {out}: must be a .csv file")
        keep_inputs(out, "--out", (*map(Path, models), *compare, *([image] if image else [])))
    if binary:
        try:
            from ..binary.benchmark import COLUMNS, about, tables
            from ..runtime.onnx import cores
        except ImportError as error:
            raise missing("benchmark --binary", "train,binary", error) from error
        versions = about()
        found = tables(threads or cores(), rounds, only)
        rows = list(track(found, "measuring", console=err_console, disable=not err_console.is_terminal, transient=True))
        columns = list(COLUMNS)
    else:
        from ..inference.benchmark import Subjects, timings
        from ..timing import about, cpu

        versions = f"{cpu()}, {about()}"
        subjects = Subjects(
            models or ("lithe",), runtime, precision or ("",), device, compare, longer, people, threads, shape
        )
        rows = timings(subjects, image, rounds)
        columns = list(rows[0])
    table = Table(*columns, title=f"medians of {rounds} rounds, milliseconds", caption=versions)
    for row in rows:
        table.add_row(*(str(row.get(column, "")) for column in columns))
    out_console.print(table)
    if out:
        with out.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*columns, "machine"], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**row, "machine": versions} for row in rows)
    return OK


def _size(text: str) -> tuple[int, tuple[int, int] | None]:
    """Longer side, or 0 if none is given; and (height, width), if both are given.

    Raises:
        ConfigError: it is neither a number nor HEIGHTxWIDTH.
    """
    if not text or text.isdigit():
        return int(text or 0), None
    shape = parse_size(text)
    return max(shape), shape
