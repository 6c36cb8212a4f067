"""Networks run by torch as they are exported, for evaluation during training.

The graph of each kind of output is a class, looked up by the type of the network's head. Input scaling and peaks are
part of the graph, so all runtimes share them.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ..arrays import UInt8
from ..heads import of_kind
from ..heads.boxes import BoxHead
from ..heads.heatmaps import HeatmapHead
from ..heads.outputs import TOP
from ..heads.pafs import PafHead
from ..heads.people import CoordinateHead, CropHead, InstanceHead
from ..networks.base import Network, Scaled
from ..networks.lithe import SHUFFLE, joints_from_heatmaps
from .base import BOXES, FOUND, MAPS, ModelInfo, Output, to_output

TOP_BOXES = 512  # in the output of a detector's graph; about a dozen are duplicates of one person
SURE = 0.2  # joints of a crop with lower scores do not count in the person's score


class Exported(nn.Module):
    """A network with its input scaling: takes (N, H, W, 3) uint8 RGB images, returns named outputs.

    Attributes:
        names: names of the outputs, see :func:`lithepose.runtime.base.to_output`.
        compared: outputs compared between an exported file and torch, see :func:`lithepose.exporters.onnx.parity`.
    """

    names: ClassVar[tuple[str, ...]]
    compared: ClassVar[tuple[str, ...]]

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net, self.scale = net, Scaled(net)

    def scaled(self, image: Tensor) -> Tensor:
        """Scale (N, H, W, 3) uint8 to (N, 3, H, W) float, the network's input."""
        return self.scale(image.permute(0, 3, 1, 2))


class ExportedHeatmaps(Exported):
    """The last stage's heatmaps (N, K, h, w) and their peaks: scores and cells (N, K, 64)."""

    names = tuple(name for name in MAPS if name != "pafs")
    compared = ("heatmaps",)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        last = self.net(self.scaled(image))[-1]
        head = self.net.head
        heatmaps = last[0][:, : len(head.skeleton)]  # without the background
        top = nn.functional.max_pool2d(heatmaps, 3, 1, 1)
        peak = torch.where(heatmaps == top, torch.relu(heatmaps), torch.zeros_like(heatmaps))
        flat = peak.flatten(2)
        if (self.net.multiple // head.stride) ** 2 < TOP:  # the smallest map has fewer cells than peaks
            flat = nn.functional.pad(flat, (0, TOP))
        score, cell = torch.topk(flat, TOP, dim=2)
        return heatmaps, *last[1:], score, cell


class ExportedPafs(ExportedHeatmaps):
    """As :class:`ExportedHeatmaps`, with part affinity fields (N, 2 L, h, w)."""

    names = MAPS
    compared = ("heatmaps", "pafs")


class ExportedCrops(Exported):
    """The joints of one person, located in the heatmaps, with calibrated scores."""

    names = FOUND
    compared = ("xy", "score")

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        net: Any = self.net
        maps, head = net.unshuffled(self.scaled(image)), net.head
        xy, score = joints_from_heatmaps(maps, head.stride, head.sigma, SHUFFLE)
        slope, offset = net.calibration
        score = score.clamp(1e-4, 1 - 1e-4)  # not torch.logit, which is exported as twice as many operations
        score = torch.sigmoid(slope * torch.log(score / (1 - score)) + offset)
        sure = (score > SURE).float()
        return xy[:, None], score[:, None], ((score * sure).sum(1) / sure.sum(1).clamp(min=1))[:, None]


class ExportedCoordinates(Exported):
    """The joints of one person, from coordinates as shares of the input."""

    names = FOUND
    compared = ("xy",)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        last = self.net(self.scaled(image))[-1]
        xy = last[0] * last[0].new_tensor([image.shape[2], image.shape[1]]) - 0.5
        score = torch.ones_like(xy[..., 0])
        return xy[:, None], score[:, None], score[:, :1]


class ExportedInstances(Exported):
    """All people of one image (N is 1), without a batch axis."""

    names = FOUND
    compared = ("xy",)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        people = self.net(self.scaled(image))[0]
        return people["keypoints"][..., :2], people["keypoints_scores"], people["scores"]


class ExportedBoxes(Exported):
    """The boxes with the highest scores, (N, 512, 4) and (N, 512)."""

    names = BOXES
    compared = ("box_score",)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        net: Any = self.net
        return net.best(self.scaled(image), TOP_BOXES)


EXPORTED: dict[type, type[Exported]] = {
    HeatmapHead: ExportedHeatmaps,
    PafHead: ExportedPafs,
    CropHead: ExportedCrops,
    CoordinateHead: ExportedCoordinates,
    InstanceHead: ExportedInstances,
    BoxHead: ExportedBoxes,
}


def exported(net: Network) -> Exported:
    """Make the graph of a network for its kind of output."""
    return of_kind(EXPORTED, net.head)(net)


def describe(name: str, net: Network, size: int = 0) -> ModelInfo:
    """Make the metadata of an exported network.

    Args:
        name: name of the network.
        net: the network.
        size: longer side of the input; defaults to the size in its options, or 512.
    """
    size = max(net.crop) if net.crop else size or int(getattr(net.config, "size", 512))
    info = ModelInfo(name, net.head, net.multiple, size, net.crop, net.small_crop)
    return ModelInfo(name, net.head, size, size) if info.fixed_size else info


class TorchRuntime:
    """As :class:`~lithepose.runtime.onnx.OnnxRuntime`, with torch.

    Args:
        net: network, put into evaluation mode.
        info: see :func:`describe`.

    Attributes:
        about: description of what runs.
    """

    about = f"torch {torch.__version__}, fp32"

    def __init__(self, net: Network, info: ModelInfo) -> None:
        self.exported, self.info = exported(net).eval().to(next(net.parameters()).device), info

    @torch.no_grad()
    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """Run (N, H, W, 3) uint8 RGB; returns the network's prediction for each image."""
        x = torch.from_numpy(images).to(next(self.exported.parameters()).device)
        names = self.exported.names
        if self.info.batched:
            outputs = list(zip(*self.exported(x), strict=True))
        else:
            outputs = [self.exported(one[None]) for one in x]
        return [to_output({name: _array(t) for name, t in zip(names, out, strict=True)}) for out in outputs]


def _array(tensor: Tensor) -> np.ndarray:
    return (tensor.float() if tensor.is_floating_point() else tensor).cpu().numpy()
