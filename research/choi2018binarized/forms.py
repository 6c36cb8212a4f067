"""What binarization costs and brings: the four forms of binary_paf, trained alike, on validation images.

    for NAME in openpose binary-paf-float binary-paf binary-paf-7x7; do
        lithepose train research/choi2018binarized/recipes/$NAME-mini.toml --data DATA
    done
    python research/choi2018binarized/forms.py --data DATA --out research/choi2018binarized/results/binary-forms.csv

They are trained alike, but for the rate of 7x7 float, 3e-4 instead of 1e-3: it has no BatchNorm to bear more.

Binary forms are packed, float ones exported; floats are stored in fp16. Their times are of the network alone, on one
and on two threads, in turn; their sizes those of all files that a form needs. Writes the table to
``--out``, and for the documentation the losses over the steps and the part affinity fields of each form on an image
(choi2018binarized, figures 5 and 6).
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import tyro

from lithepose.binary.pack import pack
from lithepose.evaluation.evaluate import evaluate
from lithepose.exporters.onnx import export_weights
from lithepose.heads.outputs import Maps
from lithepose.inference.predictor import Predictor
from lithepose.media.image import read_image
from lithepose.timing import cpu, median, ratio, take_turns, write_table
from lithepose.training.report import plot_losses, read_log

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "images"
SAMPLE = ROOT / "lithepose" / "samples" / "astronaut.jpg"
FORMS = {
    "7x7 float": ("openpose-mini", False),
    "multi-scale float": ("binary-paf-float-mini", False),
    "multi-scale binary": ("binary-paf-mini", True),
    "7x7 merely binarized": ("binary-paf-7x7-mini", True),
}
SIZE = 368, 368


def main(
    data: Path,
    runs: Path = ROOT / "runs",
    out: Path = ROOT / "research" / "choi2018binarized" / "results" / "binary-forms.csv",
    images: Path = FIGURES,
) -> None:
    """Measure all forms that have been trained.

    Args:
        data: folder that holds ``data/coco-full.tar``.
        runs: folder of the runs.
        out: table.
        images: folder of the images.
    """
    logging.getLogger("torch").setLevel(logging.ERROR)
    models = {
        form: runs / name / ("packed.safetensors" if bits else "weights.onnx") for form, (name, bits) in FORMS.items()
    }
    models = {form: path for form, path in models.items() if path.with_name("weights.safetensors").exists()}
    if "7x7 float" not in models:
        raise SystemExit(f"{runs}: no openpose-mini, which the others are compared with; train it first")
    rows: dict[str, dict[str, object]] = {}
    for form, path in models.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            weights = path.with_name("weights.safetensors")
            if FORMS[form][1]:
                pack(weights, path, half=True)  # as exported ones are
            else:
                export_weights(weights, path)
        scores = evaluate(Predictor(path, size=max(SIZE)), data / "data" / "coco-full.tar", "val", "oks").scores
        files = [path, *path.parent.glob(f"{path.stem}-front.onnx")]
        rows[form] = {
            "form": form,
            **{name: f"{scores[name]:.4f}" for name in ("AP", "AP50", "AR")},
            "steps": (last := read_log(path.parent)[-1])["step"],
            "loss": f"{last['total']:.2f}",
            "validation_loss": f"{last['validation']:.2f}",
            "megabytes": f"{sum(file.stat().st_size for file in files) / 1e6:.2f}",
        }
    names = {form: FORMS[form][0] for form in models}
    plot_losses({form: read_log(runs / name) for form, name in names.items()}, images / "binary-forms-losses.png")
    draw_fields(models, images / "binary-forms-pafs.jpg")
    image = np.random.default_rng(0).integers(0, 256, (1, *SIZE, 3), np.uint8)
    for threads in (1, 2):
        runtimes = {form: Predictor(path, threads=threads).runtime for form, path in models.items()}
        parts: dict[str, Callable[[], object]] = {form: lambda r=r: r(image) for form, r in runtimes.items()}
        times = take_turns(parts, 15)
        for form in models:
            rows[form] |= {
                f"ms_{threads}": f"{median(times, form):.1f}",
                f"share_of_7x7_{threads}": f"{ratio(times, form, '7x7 float'):.3f}",
            }
    table = [row | {"input": "x".join(map(str, SIZE)), "cpu": cpu()} for row in rows.values()]
    write_table(out, table)
    for row in table:
        print(*row.values(), sep="  ")


def draw_fields(models: dict[str, Path], out: Path) -> None:
    """Strength of the strongest limb field over an image, one image a form in the order of the table."""
    image = read_image(SAMPLE)
    images = []
    for path in models.values():
        predictor = Predictor(path, size=max(SIZE))
        pixels, _ = predictor.letterbox(image)
        (maps,) = predictor.runtime(pixels[None])
        assert isinstance(maps, Maps)
        strength = np.hypot(maps.pafs[::2], maps.pafs[1::2]).max(0).clip(0, 1)
        shade = cv2.resize(strength, pixels.shape[1::-1], interpolation=cv2.INTER_CUBIC).clip(0, 1)[..., None]
        images.append(pixels * (0.5 - 0.5 * shade) + np.array([255, 140, 0]) * shade)
    cv2.imwrite(str(out), np.concatenate(images, 1)[..., ::-1].astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    tyro.cli(main)
