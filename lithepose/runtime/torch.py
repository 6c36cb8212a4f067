"""A network run by torch, as it is exported: for evaluation while it trains."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ..heads.outputs import TOP
from ..networks import Network, Scaled
from ..networks.lithe import SHUFFLE, Lithe, joints_from_heatmaps
from ..networks.person_detector import PersonDetector
from ..skeleton import Head
from .base import BOXES, FOUND, MAPS, ModelInfo, Output, to_result

TOP_BOXES = 512  # in the output of a detector's graph, of which a dozen are duplicates of one person
SURE = 0.2  # joints of a crop that score less do not count in the person's score


class Exported(nn.Module):
    """A network with its input scaling and its peaks: uint8 images in, what the decoder reads out.

    Outputs are named in :mod:`lithepose.runtime.onnx`: the last stage's maps and their peaks, or people.
    """

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.net, self.scale = net, Scaled(net)

    @property
    def names(self) -> tuple[str, ...]:
        """Of the outputs."""
        if self.net.kind == "people":
            return BOXES
        if self.net.kind != "maps" or isinstance(self.net, Lithe):
            return FOUND
        return (
            MAPS
            if not isinstance(self.net.head, Head) or self.net.head.limbs
            else tuple(name for name in MAPS if name != "fields")
        )

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(N, H, W, 3) uint8 RGB -> maps (N, ...), peak_score (N, K, 64) and peak_cell (N, K, 64), or people."""
        x = self.scale(image.permute(0, 3, 1, 2))
        if self.net.kind == "boxes":
            people = self.net(x)[0]  # of one image: N is 1
            return people["keypoints"][..., :2], people["keypoints_scores"], people["scores"]
        if self.net.kind == "people":
            assert isinstance(self.net, PersonDetector)
            return self.net.best(x, TOP_BOXES)
        if isinstance(self.net, Lithe):
            maps, head = self.net.unshuffled(x), self.net.head
            xy, score = joints_from_heatmaps(maps, head.stride, head.sigma, SHUFFLE)
            slope, offset = self.net.calibration
            score = torch.sigmoid(slope * torch.logit(score, 1e-4) + offset)
            sure = (score > SURE).float()
            return xy[:, None], score[:, None], ((score * sure).sum(1) / sure.sum(1).clamp(min=1))[:, None]
        last = self.net(x)[-1]
        if self.net.kind == "xy":
            xy = last[0] * last[0].new_tensor([image.shape[2], image.shape[1]]) - 0.5
            score = torch.ones_like(xy[..., 0])
            return xy[:, None], score[:, None], score[:, :1]
        head = self.net.head
        assert isinstance(head, Head)
        heatmaps = last[0][:, : len(head.skeleton)]  # without the background
        top = nn.functional.max_pool2d(heatmaps, 3, 1, 1)
        peak = torch.where(heatmaps == top, torch.relu(heatmaps), torch.zeros_like(heatmaps))
        flat = peak.flatten(2)
        if (self.net.multiple // head.stride) ** 2 < TOP:  # the smallest map has fewer cells than peaks
            flat = nn.functional.pad(flat, (0, TOP))
        score, cell = torch.topk(flat, TOP, dim=2)
        return heatmaps, *last[1:], score, cell


def describe(name: str, net: Network, size: int = 0) -> ModelInfo:
    """What an exported file says about a network.

    Args:
        name: of the network.
        net: the network.
        size: longer side of its input; by default that of its options, or 512.
    """
    crop = tuple(getattr(net, "crop", ()))
    size = max(crop) if crop else size or int(getattr(net.config, "size", 512))
    fixed = net.kind == "xy"  # coordinates are shares of a square
    multiple, small = size if fixed else net.multiple, tuple(getattr(net, "small_crop", ()))
    return ModelInfo(name, net.head, multiple, size, net.kind == "boxes", fixed, crop, small)


class TorchRuntime:
    """The same as :class:`~lithepose.runtime.onnx.OnnxRuntime`, by torch.

    Args:
        net: put into evaluation mode.
        info: see :func:`describe`.
    """

    def __init__(self, net: Network, info: ModelInfo) -> None:
        self.exported, self.info = Exported(net).eval().to(next(net.parameters()).device), info

    @torch.no_grad()
    def __call__(self, images: np.ndarray) -> list[Output]:
        """(N, H, W, 3) uint8 RGB -> maps of every image, or the people in it."""
        x = torch.from_numpy(images).to(next(self.exported.parameters()).device)
        if self.info.single:
            outputs = [self.exported(one[None]) for one in x]
        else:
            outputs = list(zip(*self.exported(x), strict=True))
        return [
            to_result(
                {name: t.float().cpu().numpy() if t.is_floating_point() else t.cpu().numpy() for name, t in named}
            )
            for named in (zip(self.exported.names, output, strict=True) for output in outputs)
        ]
