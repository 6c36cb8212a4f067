"""Feature extractors shared by the networks."""

from __future__ import annotations

from .mobilenet import MobileNetV1
from .vgg import VGG19

BACKBONES = {"vgg19": VGG19, "mobilenet_v1": lambda: MobileNetV1(stride=8)}


def make_backbone(name: str) -> VGG19 | MobileNetV1:
    """Make a backbone whose last features have 512 channels at stride 8.

    Raises:
        ValueError: no such backbone.
    """
    if name not in BACKBONES:
        raise ValueError(f"no backbone {name!r}; there are {', '.join(BACKBONES)}")
    return BACKBONES[name]()
