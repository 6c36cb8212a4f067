"""Empirical receptive field of one joint (osokin2019context, figures 6 to 8).

A window of noise slides over the image. Its positions that change the joint's heatmap are the receptive field.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import cv2
import numpy as np
import torch

from ..errors import ConfigError
from ..heads.heatmaps import HeatmapHead
from ..networks import Network, Scaled


@torch.no_grad()
def calibrate(net: Network, image: np.ndarray) -> None:
    """Set the BatchNorm statistics of an untrained network from one image.

    Otherwise every layer shrinks its input a little, and the last output consists of its bias and rounding errors.

    Args:
        net: network; its BatchNorm is changed.
        image: (H, W, 3) uint8 RGB network input.
    """
    layers = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    momenta = [layer.momentum for layer in layers]
    for layer in layers:
        layer.momentum = 1.0
    both = torch.from_numpy(np.stack([image, image[:, ::-1]]))  # a single image may leave one value per channel
    net.train()(Scaled(net)(both.permute(0, 3, 1, 2)))
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum
    net.eval()


@torch.no_grad()
def receptive_field(
    net: Network,
    image: np.ndarray,
    joint: int,
    *,
    window: int = 11,
    step: int = 3,
    stage: int = -1,
    at: str = "map",
    batch: int = 32,
    seed: int = 0,
    progress: Callable[[range], Iterable[int]] | None = None,
) -> np.ndarray:
    """Measure how much the heatmap of a joint changes when a part of the image is replaced by noise.

    Args:
        net: network with heatmaps, put into evaluation mode.
        image: (H, W, 3) uint8 RGB network input, sides multiples of ``net.multiple``.
        joint: index of the heatmap.
        window: side of the square of noise, in pixels, odd; all windows have the same noise.
        step: pixels between two positions of the window.
        stage: stage of the heatmap; the last by default.
        at: where the change is measured: on the whole "map", as in the paper; or at one cell, the highest ("peak") or
            the "centre". The field of a whole map always covers the image, because each position changes the cells near
            it. Use one cell to compare how far networks see.
        batch: images per batch.
        seed: seed of the noise.
        progress: wraps the range of batches, for example ``rich.progress.track``.

    Returns:
        (ceil(H / step), ceil(W / step)) float32: absolute change, summed over the map for ``at="map"``, for windows
        centred at pixels (row * step, column * step).

    Raises:
        ConfigError: the joint, stage or window does not exist, the image has a wrong size, or the heatmap only changes
            by rounding, as in an untrained network without :func:`calibrate`.
    """
    joints = len(net.head.skeleton) if isinstance(net.head, HeatmapHead) else 0
    if not 0 <= joint < joints:
        raise ConfigError(f"joint {joint}: out of range; {type(net).__name__} has heatmaps of {joints} joints")
    if window < 1 or window % 2 == 0 or step < 1 or batch < 1:
        raise ConfigError(f"window {window}, step {step}, batch {batch}: all must be positive, and window must be odd")
    height, width = image.shape[:2]
    noise = np.random.default_rng(seed).integers(0, 256, (window, window, 3), np.uint8)
    reach = window // 2
    places = [(y, x) for y in range(0, height, step) for x in range(0, width, step)]
    net.eval()
    device = next(net.parameters()).device
    scale = Scaled(net).to(device)

    def heatmaps(images: np.ndarray) -> torch.Tensor:
        stages = net(scale(torch.from_numpy(images).to(device).permute(0, 3, 1, 2)))
        try:
            return stages[stage][0][:, joint]
        except IndexError:
            raise ConfigError(f"stage {stage}: out of range; the network has {len(stages)} stages") from None

    expected = heatmaps(image[None])
    rows, columns = expected.shape[1:]
    cells = {"map": None, "peak": int(expected.argmax()), "centre": rows // 2 * columns + columns // 2}
    if at not in cells:
        raise ConfigError(f"at {at!r}: must be one of {', '.join(cells)}")
    cell = cells[at]
    change = np.empty(len(places), np.float32)
    starts = range(0, len(places), batch)
    for start in progress(starts) if progress else starts:
        part = places[start : start + batch]
        images = np.repeat(image[None], len(part), 0)
        for masked, (y, x) in zip(images, part, strict=True):
            top, left = max(y - reach, 0), max(x - reach, 0)
            bottom, right = min(y + reach + 1, height), min(x + reach + 1, width)
            masked[top:bottom, left:right] = noise[
                top - y + reach : bottom - y + reach, left - x + reach : right - x + reach
            ]
        differences = (heatmaps(images) - expected).abs().flatten(1)
        change[start : start + len(part)] = (differences.sum(1) if cell is None else differences[:, cell]).cpu().numpy()
    rounding = 100 * torch.finfo(torch.float32).eps * float(expected.abs().max()) * (1 if cell is not None else rows)
    if 0 < change.max() < rounding:
        raise ConfigError(
            f"the heatmap changes by at most {change.max():.1e}, which is rounding; train or calibrate the network"
        )
    return change.reshape(-(-height // step), -(-width // step))


@torch.no_grad()
def find_joint(net: Network, image: np.ndarray, joint: int, stage: int = -1) -> tuple[float, float]:
    """Return the centre of the highest cell of a joint's heatmap, x and y in pixels of ``image``."""
    net.eval()
    device = next(net.parameters()).device
    x = Scaled(net).to(device)(torch.from_numpy(image[None]).to(device).permute(0, 3, 1, 2))
    heatmap = net(x)[stage][0][0, joint]
    y, x = divmod(int(heatmap.argmax()), heatmap.shape[1])
    stride = image.shape[1] / heatmap.shape[1]
    return (x + 0.5) * stride - 0.5, (y + 0.5) * stride - 0.5


def covered(change: np.ndarray, share: float = 0.01) -> float:
    """Share of the image with a change of at least ``share`` of the largest; 0 if nothing changes."""
    largest = float(change.max())
    return float((change >= share * largest).mean()) if largest > 0 else 0.0


def draw_field(
    image: np.ndarray,
    change: np.ndarray,
    truth: tuple[float, float] | None = None,
    found: tuple[float, float] | None = None,
    colour: tuple[int, int, int] = (255, 0, 0),
) -> np.ndarray:
    """Draw the receptive field in green on the grey image, stronger for larger changes.

    Args:
        image: (H, W, 3) uint8 RGB.
        change: result of :func:`receptive_field`.
        truth: labelled position of the joint, x and y in pixels: a white ring.
        found: predicted position: a ring of ``colour``.
        colour: RGB; the paper uses red for left joints and blue for right ones.

    Returns:
        (H, W, 3) uint8 RGB.
    """
    height, width = image.shape[:2]
    # The square root makes small changes visible beside large ones.
    strength: Any = np.sqrt(change / max(float(change.max()), 1e-12)).astype(np.float32)
    rows, columns = change.shape
    step = np.array(
        [width / columns, height / rows], np.float32
    )  # as the windows lie: value i belongs to pixel i * step
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    strength = cv2.remap(strength, x / step[0], y / step[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)[
        ..., None
    ]
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None], 3, 2).astype(np.float32)
    green = np.array([0, 255, 0], np.float32)
    drawn = (grey * (1 - 0.7 * strength) + green * 0.7 * strength + 0.5).astype(np.uint8)
    radius = max(3, round(max(height, width) / 64))
    for point, ring in ((truth, (255, 255, 255)), (found, colour)):
        if point is not None:
            cv2.circle(drawn, (round(point[0]), round(point[1])), radius, ring, 2, cv2.LINE_AA)
    return drawn
