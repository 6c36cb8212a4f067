"""lithepose models"""

from __future__ import annotations

from rich.table import Column, Table

from .calls.console import OK, out_console


def models() -> int:
    """List the embedded models, the best of each task first, and the networks that can be trained.

    Examples:
        lithepose models
    """
    import csv

    from ..inference.models import WEIGHTS, manifest

    name = Column("name", no_wrap=True)
    embedded = Table("task", name, "parameters", "GMACs", "file", "scores", "choose it for", title="embedded models")
    known = manifest()
    tasks = list(dict.fromkeys(model["task"] for model in known.values()))

    def rank(name: str) -> tuple[int, float]:
        return tasks.index(known[name]["task"]), -next(iter(known[name]["scores"].values()))

    for name in sorted(known, key=rank):
        model = known[name]
        file = WEIGHTS / model["file"]
        beside = [file.with_name(f"{file.stem}-{part}.onnx") for part in ("float", "front")]  # of a network in bits
        parts = [part for part in (file, *beside) if part.exists()]
        megabytes = sum(part.stat().st_size for part in parts) / 1e6
        embedded.add_row(
            model["task"],
            name,
            f"{model['parameters'] / 1e6:.2f} M",
            f"{model['macs'] / 1e9:.2f} at {model['macs_at']}",
            f"{' and '.join(part.name for part in parts)} ({megabytes:.1f} MB)",
            ", ".join(f"{k} {v:.3f}" for k, v in model["scores"].items()) + f" ({model['measured_on']})",
            model["choose"],
        )
    networks = Table(
        Column("network", no_wrap=True),
        "paper",
        "input",
        "parameters",
        "GMACs",
        "MB fp32",
        "fp16",
        "bits",
        title="networks to train",
    )
    with open(WEIGHTS / "networks.csv", newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            printed = [row["paper_parameters"], row["paper_gmacs"]]
            counts = f"{int(row['parameters']) / 1e6:.2f} M", f"{int(row['macs']) / 1e9:.2f}"
            suffixes = (
                f" ({float(printed[0]) / 1e6:.2f} M)" if printed[0] else "",
                f" ({printed[1]})" if printed[1] else "",
            )
            counts = [count + suffix for count, suffix in zip(counts, suffixes, strict=True)]
            sizes = row["mb_fp32"], row["mb_fp16"], row["mb_packed"] if row["mb_packed"] != row["mb_fp32"] else ""
            networks.add_row(row["network"], row["paper"], row["input"], *counts, *sizes)
    out_console.print(embedded)
    out_console.print(networks)
    out_console.print(
        "Values in brackets are the paper's. bits: binary weights stored as bits, the others in fp32. binary_paf needs"
        " the extra binary. `lithepose analyze complexity NETWORK` (extra train) counts other options and sizes."
    )
    return OK
