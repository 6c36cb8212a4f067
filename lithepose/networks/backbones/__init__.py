"""Feature extractors shared by the networks."""

from __future__ import annotations

from ...errors import ConfigError
from .mobilenet import MobileNetV1
from .vgg import VGG19

BACKBONES = {"vgg19": VGG19, "mobilenet_v1": lambda: MobileNetV1(stride=8)}


def make_backbone(name: str) -> VGG19 | MobileNetV1:
    """Make a backbone that ends with 512 channels at stride 8.

    Raises:
        ConfigError: the backbone does not exist.
    """
    if name not in BACKBONES:
        raise ConfigError(f"unknown backbone {name!r}; choose one of {', '.join(BACKBONES)}")
    return BACKBONES[name]()
