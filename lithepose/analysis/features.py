"""Outputs of a network's layers for an image: one small map per channel (huang2019mln, figure 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from ..errors import ConfigError
from ..networks import Network, Scaled

# Of both branches, as in huang2019mln's figure 1: Conv-1, and Conv-4 with the features of the other branch.
MULTILEVEL_LAYERS = ("detect_joints.convs.0", "merge_joints.merge", "detect_limbs.convs.0", "merge_limbs.merge")


@dataclass(frozen=True)
class Features:
    """The output of one layer for one image.

    Attributes:
        layer: name of the module.
        maps: (C, h, w) float32.
    """

    layer: str
    maps: np.ndarray

    @property
    def active(self) -> float:
        """Share of the values above zero."""
        return float((self.maps > 0).mean())

    def strongest(self, count: int) -> list[int]:
        """Return the channels with the largest deviation over the image, the largest first."""
        return np.argsort(-self.maps.std((1, 2)), kind="stable")[:count].tolist()


def layers_with_maps(net: Network) -> list[str]:
    """Return the names of the convolutions of a network."""
    return [name for name, module in net.named_modules() if isinstance(module, torch.nn.Conv2d)]


@torch.no_grad()
def features(net: Network, image: np.ndarray, layers: Sequence[str]) -> list[Features]:
    """Run a network on one image, and return the outputs of some of its layers.

    Args:
        net: network, put into evaluation mode.
        image: (H, W, 3) uint8 RGB network input, sides multiples of ``net.multiple``.
        layers: names of modules that return one tensor (N, C, h, w).

    Raises:
        ConfigError: a module does not exist, does not return maps, or does not run.
    """
    modules = dict(net.named_modules())
    found: dict[str, Tensor] = {}
    for name in layers:
        if name not in modules or not name:
            near = [known for known in modules if known.startswith(name.split(".")[0])][:8]
            raise ConfigError(
                f"layer {name!r}: no such module; available: {', '.join(near or list(modules)[1:9])}, ..."
            )

    def keep(name: str, output: object) -> None:
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise ConfigError(
                f"layer {name}: does not return feature maps; choose a module inside it, such as {name}.0"
            )
        found[name] = output

    handles = [modules[name].register_forward_hook(lambda _, __, out, n=name: keep(n, out)) for name in layers]
    try:
        net.eval()(Scaled(net)(torch.from_numpy(image[None]).permute(0, 3, 1, 2)))
    finally:
        for handle in handles:
            handle.remove()
    if missing := [name for name in layers if name not in found]:
        raise ConfigError(f"layer {missing[0]}: not run when the network processes an image; choose another layer")
    return [Features(name, found[name][0].float().numpy()) for name in layers]


def sheet(maps: np.ndarray, channels: Sequence[int], across: int = 4, side: int = 96) -> np.ndarray:
    """Arrange maps of some channels in a grid, each scaled to its own range.

    Args:
        maps: (C, h, w).
        channels: channels to show.
        across: number of maps in a row.
        side: side of each map, in pixels.

    Returns:
        (rows * side, across * side) float32 of 0 to 1.
    """
    rows = -(-len(channels) // across)
    out = np.zeros((rows * side, across * side), np.float32)
    for i, channel in enumerate(channels):
        one = maps[channel].astype(np.float32)
        low, high = float(one.min()), float(one.max())
        one = (one - low) / max(high - low, 1e-9)
        y, x = divmod(i, across)
        shown = cv2.resize(one, (side, side), interpolation=cv2.INTER_LINEAR)
        out[y * side : (y + 1) * side, x * side : (x + 1) * side] = shown
    return out
