"""How long an image takes, part by part."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..drawing import draw
from ..geometry import PersonCrop
from ..media.image import read_image
from ..resources import SAMPLE
from ..runtime.base import Output
from ..timing import Row, median, take_turns
from .detector import PersonDetector
from .estimator import BATCH
from .load import load
from .predictor import Predictor
from .top_down import TopDown


def timings(models: Sequence[str], file: Path | None, size: int, threads: int, rounds: int) -> list[Row]:
    """Preparation, network, decoding and drawing of an image.

    Args:
        models: names or files.
        file: image to run on; by default the embedded one.
        size: longer side of the input; 0 is each model's own.
        threads: of the network; 0 takes one a core.
        rounds: of which medians are taken.

    Returns:
        a row a model, milliseconds. Of a model behind a person detector each part is that of both networks.
    """
    image, rows = read_image(file or SAMPLE), list[Row]()
    for name in models:
        model = load(name, size=size, threads=threads)
        shape, parts = _top_down(model, image) if isinstance(model, TopDown) else _one_network(model, image)
        poses = model(image)
        parts["draw"] = lambda poses=poses: draw(image, poses)
        parts["whole"] = lambda model=model: draw(image, model(image))
        times = take_turns(parts, rounds)
        spent = {part: f"{median(times, part):.2f}" for part in parts}
        fast = f"{1000 / median(times, 'whole'):.1f}"
        rows.append({"model": name, "input": shape, "people": len(poses), **spent, "images/s": fast})
    return rows


def _one_network(model: Predictor, image: np.ndarray) -> tuple[str, dict[str, Callable[[], object]]]:
    """Shape of the input and parts of a call of a network on whole images."""
    pixels, back = model.letterbox(image)
    (output,) = model.runtime(pixels[None])
    return f"{pixels.shape[0]}x{pixels.shape[1]}", {
        "letterbox": lambda: model.letterbox(image),
        "network": lambda: model.runtime(pixels[None]),
        "decode": lambda: model.decode(output, back),
    }


def _top_down(model: TopDown, image: np.ndarray) -> tuple[str, dict[str, Callable[[], object]]]:
    """Likewise of a person detector and a network on crops; without people of the detector alone."""
    detector, pose = model.finder, model.predictor
    assert isinstance(detector, PersonDetector)
    pixels, back = detector.prepare(image)
    (found,) = detector.runtime(pixels[None])
    boxes = detector.finish(found, back).xywh.tolist()[:BATCH]

    def crops() -> list[tuple[np.ndarray, PersonCrop]]:
        return [pose.person_crop(image, box) for box in boxes]

    def networks() -> list[Output]:
        detector.runtime(pixels[None])
        return pose.runtime(batch) if len(batch) else []

    ready = crops()
    batch = np.array([crop for crop, _ in ready])
    outputs = networks()
    return f"{pixels.shape[0]}x{pixels.shape[1]}", {
        "letterbox": lambda: (detector.prepare(image), crops()),
        "network": networks,
        "decode": lambda: (
            detector.finish(found, back),
            [pose.decode(output, crop) for output, (_, crop) in zip(outputs, ready, strict=True)],
        ),
    }
