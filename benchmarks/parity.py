"""Differences of keypoints between every runtime and precision and fp32 in ONNX Runtime, in pixels of the image.

    python benchmarks/parity.py coco-val.tar --out results/parity-CPU.csv

Runs on the first 50 images of a data set. Every person that the reference finds is compared with the nearest person of
the other runtime, for the joints that both have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

import lithepose
from lithepose.data.formats import open_dataset
from lithepose.errors import LitheposeError
from lithepose.runtime.base import about as runs_in
from lithepose.timing import about, cpu, write_table

KINDS = (
    ("onnx", "fp32"),
    ("onnx", "int8"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("openvino", "int8"),
    ("torch", "fp32"),
)
FAR = 0.1  # limit relative to a person's box: with a larger median distance of joints it is another person


def opened(runtime: str, precision: str, int8: tuple[str, str], threads: int) -> lithepose.TopDown:
    """Open the default model in one runtime and precision."""
    names = int8 if precision == "int8" else ("lithe", "person_detector")
    model = lithepose.load(names[0], detector=names[1], threads=threads, runtime=runtime, precision=precision)
    assert isinstance(model, lithepose.TopDown)
    return model


def distances(reference: lithepose.Poses, found: lithepose.Poses) -> tuple[list[float], int]:
    """Return distances of the joints found in both, over people found in both; and the number of people not found."""
    every, missed = list[float](), 0
    for xy, box in zip(reference.xy, reference.boxes, strict=True):
        apart = np.hypot(*np.moveaxis(found.xy - xy, -1, 0)).reshape(-1, len(xy))
        medians = [np.median(one[np.isfinite(one)]) if np.isfinite(one).any() else np.inf for one in apart]
        if not medians or min(medians) > FAR * max(box[2:]):
            missed += 1
            continue
        nearest = apart[int(np.argmin(medians))]
        every += nearest[np.isfinite(nearest)].tolist()
    return every, missed


def main(
    data: tyro.conf.Positional[Path],
    /,
    out: Path,
    split: str = "val",
    count: int = 50,
    threads: int = 1,
    int8: tuple[str, str] = ("lithe", "person_detector"),
) -> None:
    """Compare, and write the table.

    Args:
        data: data set.
        out: CSV file to write.
        split: split of the data set.
        count: number of images.
        threads: threads of the networks.
        int8: pose model and person detector in int8, as names or files.
    """
    dataset = open_dataset(data, split)
    images = [dataset.files.image(record.file_name) for record in dataset.records[:count]]
    expected, rows = [opened("onnx", "fp32", int8, threads)(image) for image in images], list[dict[str, object]]()
    for runtime, precision in KINDS:
        try:
            model = opened(runtime, precision, int8, threads)
        except LitheposeError as error:
            print(f"skipped: {runtime} {precision}: {error}")
            continue
        found = [distances(before, model(image)) for before, image in zip(expected, images, strict=True)]
        apart = np.array([distance for every, _ in found for distance in every])
        row: dict[str, object] = {
            "runtime": runtime,
            "precision": precision,
            "median_pixels": round(float(np.median(apart)), 4),
        }
        row |= {"p95_pixels": round(float(np.quantile(apart, 0.95)), 3), "largest_pixels": round(float(apart.max()), 2)}
        row |= {"joints": len(apart), "people": sum(map(len, expected)), "missed": sum(missed for _, missed in found)}
        rows.append(
            row | {"images": len(images), "runs_in": runs_in(model.predictor.runtime), "machine": f"{cpu()}, {about()}"}
        )
        print(*(f"{key} {value}" for key, value in row.items()))
    write_table(out, rows)


if __name__ == "__main__":
    tyro.cli(main)
