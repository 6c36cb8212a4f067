"""The files of the running model, for the page's mode without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..inference.detector import DETECTOR, PersonDetector
from ..inference.estimator import Estimator
from ..inference.models import manifest, weights_file
from ..inference.top_down import TopDown


class ModelFiles:
    """ONNX files of a person detector and a pose network; none for other models.

    Args:
        name: name or file of the running model.
        model: the running model.

    Attributes:
        paths: files, by the names under which they are served.
        description: their description in ``/v1/models``.
    """

    def __init__(self, name: str, model: Estimator) -> None:
        self.paths: dict[str, Path] = {}
        self.description: dict[str, Any] = {}
        if not (isinstance(model, TopDown) and isinstance(model.finder, PersonDetector)):
            return
        pose, detector = model.predictor.runtime.info, model.finder.runtime.info
        paths = {
            "pose": weights_file(name),
            "detector": weights_file(manifest().get(name, {}).get("detector", DETECTOR)),
        }
        if not pose.crop or any(path.suffix != ".onnx" for path in paths.values()):
            return
        self.paths = paths
        self.description = {
            "files": {name: f"/v1/models/{name}.onnx" for name in self.paths},
            "crop": list(pose.crop),
            "detector": {"size": model.finder.size, "multiple": detector.multiple},
        }
