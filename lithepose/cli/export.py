"""lithepose export"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any, Literal

from ..errors import ConfigError
from ._console import OK, missing, out_console
from ._files import check_output, parse_options


def export(
    weights: Path,
    /,
    to: Literal["onnx", "bits"] = "onnx",
    network: str | None = None,
    options: str | None = None,
    out: Path | None = None,
    half: bool = False,
    size: int | None = None,
) -> int:
    """Write trained weights as a file that runs without torch, and print its largest difference from torch.

    Examples:
        lithepose export runs/mine/weights.safetensors
        lithepose export weights.safetensors --out mine.onnx --size 384
        lithepose export weights.safetensors --to bits --half

    Args:
        weights: .safetensors of a training run.
        to: onnx, for any network; or bits, for binary_paf: one bit a binary weight, run by the extra binary.
        network: name of the network, for onnx. Default: what the weights' file says.
        options: its options, as json. Default: what the weights' file says, or none.
        out: file to write. Default: beside the weights. For bits a .safetensors; the real-valued part is written beside
            it, as ...-float.onnx.
        half: for bits, round the real-valued part's weights to fp16, as onnx always does.
        size: longer side of the model's default input. Default: what it was trained at, else 512.
    """
    bits = to == "bits"
    if bits and (network or options):
        raise ConfigError("--to bits: takes network and options from the weights' file; leave them out")
    if half and not bits:
        raise ConfigError("--half: is for --to bits; onnx always has fp16 weights")
    try:
        if bits:
            from ..binary.pack import pack as write
        else:
            from ..exporters.onnx import export_weights as write
    except ImportError as error:
        raise missing("export --to bits" if bits else "export", "train,binary" if bits else "train", error) from error
    path = out or (weights.with_name(f"{weights.stem}-packed.safetensors") if bits else weights.with_suffix(".onnx"))
    check_output(path, "--out")
    logging.getLogger("torch").setLevel(logging.ERROR)  # the exporter talks about itself
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own: dict[str, Any] = (
            {"half": half} if bits else {"network": network, "options": parse_options(options) if options else None}
        )
        difference = write(weights, path, size=size, **own)
    megabytes = f"{path.stat().st_size / 1e6:.1f} MB"
    if bits:
        float_part = path.with_name(f"{path.stem}-float.onnx")
        megabytes += f", its real-valued part {float_part.stat().st_size / 1e6:.1f} MB"
    kind = "typical" if bits else "largest"
    out_console.print(f"{path}: {megabytes}, {kind} difference from torch {difference:.1e}")
    return OK
