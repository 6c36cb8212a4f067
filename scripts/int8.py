"""Quantize embedded models to int8 and add the files to the manifest, in one command.

    python scripts/int8.py CALIBRATION_IMAGES --evaluate coco-val.tar

Calibrate with training images, never with images of the evaluation. Writes NAME-int8.onnx next to the weights, and
their line in the manifest; with ``--evaluate`` also the scores, which takes a minute or two.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

import tyro

import lithepose
from lithepose.cli.export import export
from lithepose.inference.models import manifest
from lithepose.resources import WEIGHTS

MODELS = "lithe", "person_detector"
SCORES = "AP", "AP50", "AP75", "AR"


def main(
    calibrate: tyro.conf.Positional[Path],
    /,
    evaluate: Path | None = None,
    split: str = "val",
    out: Path = WEIGHTS,
    threads: int = 0,
) -> None:
    """Quantize, measure, and write the manifest.

    Args:
        calibrate: folder of training images.
        evaluate: data set for the scores; by default nothing is measured.
        split: split of this data set.
        out: folder of the files, and of manifest.toml if there is one.
        threads: threads of the networks during the evaluation.
    """
    files = {name: out / f"{Path(manifest()[name]['file']).stem}-int8.onnx" for name in MODELS}
    for name, file in files.items():
        export(name, precision="int8", calibrate=calibrate, check=calibrate, out=file)
    scores: dict[str, str] = dict.fromkeys(MODELS, "")
    if evaluate:
        model = lithepose.load(files["lithe"], detector=files["person_detector"], threads=threads)
        done = lithepose.evaluate(model, evaluate, split)
        print(f"scores of {model}: {done.scores}")
        listed = ", ".join(f"{key} = {done.scores[key]:.4f}" for key in SCORES)
        scores["lithe"] = f", scores = {{ {listed} }}"
    path = out / "manifest.toml"
    if not path.is_file():
        sys.exit(f"{path}: no such file; the int8 models are not registered")
    text = path.read_text(encoding="utf-8")
    for name, file in files.items():
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        text = entered(text, name, f'int8 = {{ file = "{file.name}", sha256 = "{digest}"{scores[name]} }}')
    path.write_text(text, encoding="utf-8")


def entered(text: str, name: str, line: str) -> str:
    """Return a manifest with a line in a model's table; it replaces a line with the same beginning."""
    head = f"[{name}]\n"
    before, table = text.split(head, 1)
    table, *rest = re.split(r"(?m)^(?=\[)", table, maxsplit=1)
    table = re.sub(r"(?m)^int8 = .*\n", "", table)
    table = re.sub(r"(?m)^(sha256 = .*\n)", lambda match: f"{match[1]}{line}\n", table, count=1)
    return before + head + table + "".join(rest)


if __name__ == "__main__":
    tyro.cli(main)
