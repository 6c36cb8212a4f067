"""The files of the model that runs, for the page's mode without a server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..inference.detector import PersonDetector
from ..inference.estimator import Estimator
from ..inference.top_down import TopDown


class ModelFiles:
    """ONNX files of a person detector and a pose network; none for other models.

    Args:
        model: that runs.

    Attributes:
        paths: files by the names under which they are served.
        description: what ``/v1/models`` says of them.
    """

    def __init__(self, model: Estimator) -> None:
        self.paths: dict[str, Path] = {}
        self.description: dict[str, Any] = {}
        if not (isinstance(model, TopDown) and isinstance(model.finder, PersonDetector)):
            return
        pose, detector = model.predictor.runtime, model.finder.runtime
        if not (pose.path.suffix == detector.path.suffix == ".onnx" and pose.info.crop):
            return
        self.paths = {"pose": pose.path, "detector": detector.path}
        self.description = {
            "files": {name: f"/v1/models/{name}.onnx" for name in self.paths},
            "crop": list(pose.info.crop),
            "detector": {"size": model.finder.size, "multiple": detector.info.multiple},
        }
