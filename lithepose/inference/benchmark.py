"""Times an image part by part, for models, runtimes and precisions in turn."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from ..drawing import draw
from ..errors import ConfigError, LitheposeError, MissingFileError, ModelError
from ..geometry import PersonCrop
from ..media.image import read_image
from ..poses import Poses
from ..resources import SAMPLE
from ..runtime.base import Output, about
from ..runtime.onnx import open_session
from ..timing import Row, median, ratio, take_turns
from .detector import PersonDetector
from .estimator import BATCH
from .load import load
from .predictor import Predictor
from .top_down import TopDown

LOG = logging.getLogger(__name__)
Parts = dict[str, Callable[[], object]]
# Calls of a network before it is measured: by then a runtime has optimised for the input's shape.
SETTLED = 70
WHOLE = "whole"


@dataclass(frozen=True)
class Subjects:
    """What :func:`timings` measures: every model in every runtime and precision.

    Attributes:
        models: names or files.
        runtimes: as in :func:`lithepose.inference.models.open_runtime`.
        precisions: likewise; "" is the file's own.
        device: likewise.
        compare: ONNX files of other networks, which run on noise of their input shape.
        size: longer side of the input; 0 is each model's own.
        people: for networks on person crops, number of crops per call; 0 uses the people that are found.
        threads: threads of the networks; 0 uses one per core.
        shape: height and width that the image is resized to, for inputs of one shape; None keeps the image's.
    """

    models: Sequence[str] = ("lithe",)
    runtimes: Sequence[str] = ("auto",)
    precisions: Sequence[str] = ("",)
    device: str = "cpu"
    compare: Sequence[Path] = ()
    size: int = 0
    people: int = 0
    threads: int = 0
    shape: tuple[int, int] | None = None


def timings(subjects: Subjects, file: Path | None, rounds: int) -> list[Row]:
    """Time preparation, network, decoding and drawing of an image. All parts of all models take turns in every round.

    Args:
        subjects: what to measure.
        file: image to run on; by default the embedded one.
        rounds: number of rounds; medians are returned.

    Returns:
        one row per model, in milliseconds. For a model with a person detector, each part covers both networks. The
        ratio is the median over the rounds of the total time relative to that of the first row.

    Raises:
        ConfigError, ModelError, MissingExtraError: as in :func:`lithepose.inference.load.load`, if a model runs in none
            of the requested runtimes and precisions. If it runs in some of them, the others are logged.
    """
    image, rows, parts = read_image(file or SAMPLE), list[Row](), Parts()
    if subjects.shape:
        image = cv2.resize(image, subjects.shape[::-1], interpolation=cv2.INTER_AREA)
    for model, opened in _opened(subjects):
        shape, people, own = (_top_down if isinstance(opened, TopDown) else _one_network)(
            opened, image, subjects.people
        )
        parts |= {f"{len(rows)} {part}": call for part, call in own.items()}
        network = opened.predictor.runtime if isinstance(opened, TopDown) else opened.runtime
        rows.append({"model": model, "runs in": about(network), "input": shape, "people": people})
        for _ in range(SETTLED):
            own["network"]()
    for path in subjects.compare:
        shape, call = foreign(path, subjects.threads, subjects.size)
        parts |= {f"{len(rows)} network": call, f"{len(rows)} {WHOLE}": call}
        runs = f"ONNX Runtime {onnxruntime.__version__}"
        rows.append({"model": path.name, "runs in": runs, "input": shape, "people": "noise"})
    times = take_turns(parts, rounds)
    for i, row in enumerate(rows):
        for part in ("letterbox", "network", "decode", "draw", WHOLE):
            key = f"{i} {part}"
            row[part] = f"{median(times, key):.2f}" if key in times else ""
        row["ratio"] = f"{ratio(times, f'{i} {WHOLE}', f'0 {WHOLE}'):.2f}"
        row["images/s"] = f"{1000 / median(times, f'{i} {WHOLE}'):.1f}"
    return rows


def _opened(subjects: Subjects) -> list[tuple[str, Predictor | TopDown]]:
    """Every model in every runtime and precision that it runs in; raises as :func:`timings`."""
    found = list[tuple[str, Predictor | TopDown]]()
    for model in subjects.models:
        errors, before = list[LitheposeError](), len(found)
        for runtime, precision in product(subjects.runtimes, subjects.precisions):
            try:
                opened = load(
                    model,
                    size=subjects.size,
                    threads=subjects.threads,
                    runtime=runtime,
                    device=subjects.device,
                    precision=precision,
                )
                found.append((model, opened))
            except (ConfigError, ModelError) as error:
                errors.append(error)
        if len(found) == before:
            raise errors[0]
        for error in errors:
            LOG.warning("skipped: %s", error)
    return found


def _one_network(model: Any, image: np.ndarray, _: int) -> tuple[str, int, Parts]:
    """Input shape, number of people found, and the parts of a call, for a network on whole images."""
    assert isinstance(model, Predictor)
    pixels, back = model.letterbox(image)
    (output,) = model.runtime(pixels[None])
    poses = model(image)
    return (
        f"{pixels.shape[0]}x{pixels.shape[1]}",
        len(poses),
        {
            "letterbox": lambda: model.letterbox(image),
            "network": lambda: model.runtime(pixels[None]),
            "decode": lambda: model.decode(output, back),
            "draw": lambda: draw(image, poses),
            WHOLE: lambda: draw(image, model(image)),
        },
    )


def _top_down(model: Any, image: np.ndarray, people: int) -> tuple[str, int, Parts]:
    """Likewise for a person detector and a network on crops; if no person is found, only for the detector."""
    assert isinstance(model, TopDown)
    detector, pose = model.finder, model.predictor
    assert isinstance(detector, PersonDetector)
    pixels, back = detector.prepare(image)
    (found,) = detector.runtime(pixels[None])
    boxes = detector.finish(found, back).xywh
    if people:
        boxes = boxes if len(boxes) else np.array([[0, 0, image.shape[1], image.shape[0]]], np.float32)
        boxes = np.resize(boxes, (people, 4))
    scores = np.ones(len(boxes), np.float32)

    def crops() -> list[tuple[np.ndarray, PersonCrop]]:
        return [pose.person_crop(image, box) for box in boxes.tolist()]

    def networks() -> list[Output]:
        detector.runtime(pixels[None])
        return [output for batch in batches for output in pose.runtime(batch)]

    def whole() -> Poses:
        if not people:
            return model(image)
        detector(image)
        return model.on_boxes(image, boxes, scores)[0]

    ready = crops()
    batches = [np.array([c for c, _ in ready[first : first + BATCH]]) for first in range(0, len(ready), BATCH)]
    outputs, poses = networks(), whole()
    return (
        f"{pixels.shape[0]}x{pixels.shape[1]}",
        len(boxes),
        {
            "letterbox": lambda: (detector.prepare(image), crops()),
            "network": networks,
            "decode": lambda: (
                detector.finish(found, back),
                [pose.decode(output, crop) for output, (_, crop) in zip(outputs, ready, strict=True)],
            ),
            "draw": lambda: draw(image, poses),
            WHOLE: lambda: draw(image, whole()),
        },
    )


def foreign(path: Path, threads: int, size: int = 0) -> tuple[str, Callable[[], object]]:
    """A network from another source, run on noise.

    Args:
        path: ``.onnx``.
        threads: threads of the network; 0 uses one per core.
        size: length of sides that the file leaves free; 0 is 640. A free batch size is 1; the number of channels must
            be fixed.

    Returns:
        shapes of its inputs, and a function that runs it.

    Raises:
        MissingFileError: no such file.
        ModelError: ONNX Runtime cannot run it.
    """
    if not path.is_file():
        raise MissingFileError(f"{path}: no such model file to compare with")
    kinds = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(uint8)": np.uint8}
    kinds |= {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    try:
        session = open_session(path, threads)
        rng, feed = np.random.default_rng(0), dict[str, np.ndarray]()
        for given in session.get_inputs():
            shape = [
                side if isinstance(side, int) and side > 0 else (size or 640) if i else 1
                for i, side in enumerate(given.shape)
            ]
            feed[given.name] = (rng.random(shape) * (1 if "float" in given.type else 255)).astype(kinds[given.type])
        session.run(None, feed)
    except Exception as error:  # ONNX Runtime raises a dozen types of its own
        why = str(error).splitlines()[0]
        raise ModelError(f"{path}: ONNX Runtime cannot run it ({why}); check that it supports this --size") from error
    return ", ".join("x".join(map(str, array.shape)) for array in feed.values()), lambda: session.run(None, feed)
