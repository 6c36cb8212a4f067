"""lithepose: fast 2D human pose estimation.

import lithepose
model = lithepose.load()
poses = model("image.jpg")
poses.xy, poses.score, poses.joints
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .drawing import draw
    from .image import UnreadableImage, read_image
    from .inference.load import load
    from .inference.predictor import Predictor
    from .inference.top_down import TopDown
    from .poses import Poses
    from .skeleton import Skeleton

__version__ = "0.1.0"
__all__ = ["Poses", "Predictor", "Skeleton", "TopDown", "UnreadableImage", "draw", "load", "read_image"]

_HOMES = {
    "Poses": "poses",
    "Predictor": "inference.predictor",
    "Skeleton": "skeleton",
    "TopDown": "inference.top_down",
    "UnreadableImage": "image",
    "draw": "drawing",
    "load": "inference.load",
    "read_image": "image",
}


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    """Import on first use: ``import lithepose`` alone costs milliseconds, not OpenCV and ONNX Runtime."""
    if name not in _HOMES:
        raise AttributeError(f"module 'lithepose' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value
