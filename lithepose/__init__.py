"""lithepose: fast 2D human pose estimation.

import lithepose
model = lithepose.load()
poses = model("image.jpg")
poses.xy, poses.score, poses.joints
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .drawing import DrawStyle, draw
    from .errors import (
        ConfigError,
        DatasetError,
        ImageError,
        LitheposeError,
        MissingExtraError,
        MissingFileError,
        ModelError,
        OutputError,
        TrainingError,
        VideoError,
    )
    from .evaluation.evaluate import evaluate
    from .exporters.onnx import export_weights as export
    from .heads.base import DecodeConfig
    from .heads.outputs import Boxes
    from .inference.detector import PersonDetector
    from .inference.estimator import Estimator, FramePoses
    from .inference.incremental import Incremental
    from .inference.load import load
    from .inference.predictor import Predictor
    from .inference.top_down import TopDown
    from .media.image import read_image, write_image
    from .poses import Poses
    from .skeleton import Skeleton
    from .tracking.one_euro import Smoother
    from .tracking.tracker import Tracker
    from .training.config import Recipe
    from .training.trainer import train

__version__ = "0.2.0"
__all__ = [
    "Boxes",
    "ConfigError",
    "DatasetError",
    "DecodeConfig",
    "DrawStyle",
    "Estimator",
    "FramePoses",
    "ImageError",
    "Incremental",
    "LitheposeError",
    "MissingExtraError",
    "MissingFileError",
    "ModelError",
    "OutputError",
    "PersonDetector",
    "Poses",
    "Predictor",
    "Recipe",
    "Skeleton",
    "Smoother",
    "TopDown",
    "Tracker",
    "TrainingError",
    "VideoError",
    "draw",
    "evaluate",
    "export",
    "load",
    "read_image",
    "train",
    "write_image",
]

# The module of each name. Modules are imported on first use.
_HOMES = {
    "Boxes": "heads.outputs",
    "ConfigError": "errors",
    "DatasetError": "errors",
    "DecodeConfig": "heads.base",
    "DrawStyle": "drawing",
    "Estimator": "inference.estimator",
    "FramePoses": "inference.estimator",
    "ImageError": "errors",
    "Incremental": "inference.incremental",
    "LitheposeError": "errors",
    "MissingExtraError": "errors",
    "MissingFileError": "errors",
    "ModelError": "errors",
    "OutputError": "errors",
    "PersonDetector": "inference.detector",
    "Poses": "poses",
    "Predictor": "inference.predictor",
    "Recipe": "training.config",
    "Skeleton": "skeleton",
    "Smoother": "tracking.one_euro",
    "TopDown": "inference.top_down",
    "Tracker": "tracking.tracker",
    "TrainingError": "errors",
    "VideoError": "errors",
    "draw": "drawing",
    "evaluate": "evaluation.evaluate",
    "export": "exporters.onnx",
    "load": "inference.load",
    "read_image": "media.image",
    "train": "training.trainer",
    "write_image": "media.image",
}
_OTHER_NAMES = {"export": "export_weights"}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import a name on first use: ``import lithepose`` takes milliseconds, without OpenCV and ONNX Runtime."""
    if name not in _HOMES:
        from .guesses import MODULE, no_attribute

        raise no_attribute("module 'lithepose'", name, MODULE, __all__)
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), _OTHER_NAMES.get(name, name))
    globals()[name] = value
    return value
