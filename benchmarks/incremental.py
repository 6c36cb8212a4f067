"""Speed and accuracy of ``--incremental``: time, and similarity of its poses to those of a full run.

    python benchmarks/incremental.py --out results/incremental-CPU.csv [VIDEO...]

Runs on generated videos of 960x720 with three levels of noise, and on all given videos. The generated ones show a still
image, an image in which a part of the face trembles, one that moves over a still background, and one that pans. Full
and incremental runs use two threads and take turns frame by frame. Similarity is OKS with the most similar person of
the other run, averaged over the people of both runs. Noise alone changes the full run too: ``noise`` is the similarity
of full runs on two draws of it. Writes the table to ``--out``.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import tyro

import lithepose
from lithepose.inference.incremental import Incremental
from lithepose.media.image import read_image
from lithepose.media.inputs import expand
from lithepose.media.sources import Frame, frames
from lithepose.poses import Poses
from lithepose.timing import cpu, write_table

ROOT = Path(__file__).parent.parent
SAMPLES = ROOT / "lithepose" / "samples"
FRAMES = 90


def made_up(kind: str) -> Iterator[np.ndarray]:
    astronaut, camera = (read_image(SAMPLES / f"{name}.jpg") for name in ("astronaut", "camera"))
    person = cv2.resize(astronaut[:, 60:400], (230, 346))
    blurred = cv2.GaussianBlur(cv2.resize(camera[:120, :200], (960, 720)), (0, 0), 9)
    still, large = cv2.resize(astronaut, (960, 720)), cv2.resize(astronaut, (1150, 1150))
    for frame in range(FRAMES):
        if kind == "still":
            yield still
        elif kind == "face":
            image, x = still.copy(), 380 + int(9 * np.sin(frame / 2))
            image[120:190, x : x + 110] = still[120:190, 380:490]
            yield image
        elif kind == "pan":
            yield large[100:820, 2 * frame : 2 * frame + 960]
        else:
            image, x, y = blurred.copy(), 50 + 7 * frame, 200 + int(20 * np.sin(frame / 6))
            image[y : y + 346, x : x + 230] = person
            yield image


def noisy(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return np.clip(image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)


def likeness(full: Poses, partial: Poses) -> list[float]:
    return _found_in(full, partial) + _found_in(partial, full)


def _found_in(full: Poses, partial: Poses) -> list[float]:
    sigmas, out = 2 * np.array(full.skeleton.sigmas), []
    for person in full:
        joints, area = person.visible, max(float(person.box[2:].prod()), 1.0)
        distance = ((person.xy - partial.xy) ** 2).sum(2)
        each = np.where(partial.found, np.exp(-distance / (2 * area * sigmas**2)), 0)[:, joints]
        out.append(float(each.mean(1).max(initial=0)))
    return out


def measure(model: lithepose.Predictor, name: str, images: Iterator[np.ndarray], noise: bool) -> dict[str, object]:
    partial, rng = Incremental(model), np.random.default_rng(0)
    seconds, alike, shaken, looked, people = [0.0, 0.0], [], [], [], 0
    for image in images:
        frame = noisy(image, rng) if noise else image
        began = time.perf_counter()
        full = model(frame)
        between = time.perf_counter()
        found = partial(frame)
        seconds[0] += between - began
        seconds[1] += time.perf_counter() - between
        looked.append(partial.share)
        alike += likeness(full, found)
        shaken += likeness(full, model(noisy(image, rng))) if noise else []
        people += len(full)
    return {
        "model": model.runtime.info.name,
        "video": name,
        "frames": len(looked),
        "people": people,
        "full_ms": f"{1000 * seconds[0] / len(looked):.1f}",
        "incremental_ms": f"{1000 * seconds[1] / len(looked):.1f}",
        "times_faster": f"{seconds[0] / seconds[1]:.2f}",
        "looked_at": f"{np.mean(looked):.2f}",
        "likeness": f"{np.mean(alike):.3f}",
        "noise": f"{np.mean(shaken):.3f}" if noise else "",
        "cpu": cpu(),
    }


def main(videos: tuple[str, ...], /, out: Path) -> None:
    """Measure, and write the table.

    Args:
        videos: videos to run on, in addition to the generated ones.
        out: CSV file to write.
    """
    rows = []
    for name in ("lithe_paf", "binary_paf"):
        model = lithepose.Predictor(name, threads=2)
        rows += [measure(model, kind, made_up(kind), True) for kind in ("still", "face", "slide", "pan")]
        for video in videos:
            images = (f.image for f in frames(expand([video])) if isinstance(f, Frame))
            rows.append(measure(model, Path(video).name, images, False))
    write_table(out, rows)
    for row in rows:
        print(*row.values(), sep="  ")


if __name__ == "__main__":
    tyro.cli(main)
