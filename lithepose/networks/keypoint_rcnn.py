"""hoang2020rcnn: Mask R-CNN for keypoints on MobileNetV3 with light key-point heads.

The detector (proposals, RoIAlign, box head, losses) is torchvision's; this file gives it the backbone and the heads of
the paper. The paper prints no counts: e, depth and width of the head and the levels of the backbone are choices, those
of Mask R-CNN where it has them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ..errors import ConfigError
from ..heads.people import COCO_INSTANCES, InstanceHead
from .backbones.mobilenet import MobileNetV1
from .base import Network
from .blocks import batch_norms, check_size
from .weights import read_pretrained

LEVELS = {  # MobileNetV3-Large's last features of each stride: index and channels
    "fpn": {3: 24, 6: 40, 12: 112, 16: 960},
    "c4": {12: 112},
}


CELLS, NEAR = 56 * 56, 9  # of a joint's map; its score is the share of nine cells like the best one


@dataclass(frozen=True)
class KeypointRcnnConfig:
    """Options of the network.

    Attributes:
        conv: of the key-point head: vanilla, depthwise or expanded.
        expansion: depthwise filters a channel if it is expanded (e of the paper, which does not print it).
        layers: of the head.
        width: their channels.
        levels: fpn for a pyramid of strides 4 to 32; c4 for the one map of stride 16 that the paper's wording allows.
        backbone: mobilenet_v3 as in the paper; with fpn alone mobilenet_v1, to compare the heads behind the start that
            the other networks have, and resnet50, torchvision's: `lithepose convert` reads its COCO weights.
        size: longer side of the input.
        detections: most people in an image.
        freeze_norm: BatchNorm of the backbone keeps its averages, as is usual behind ImageNet weights and with small
            batches; a backbone that starts from chance needs it to learn.
        rois: boxes an image that the heads are trained on, a quarter of them of people; what a step costs.
        norm: BatchNorm behind the convolutions of the head that end in a ReLU; the paper does not speak of any.

    Images are fitted into size x size with their aspect kept; "resized to 320x320" could also mean warped, which
    :mod:`lithepose.inference.predictor` has for no network.
    """

    conv: str = "expanded"
    expansion: int = 2
    layers: int = 8
    width: int = 512
    levels: str = "fpn"
    backbone: str = "mobilenet_v3"
    size: int = 320
    detections: int = 100
    norm: bool = False
    freeze_norm: bool = True
    rois: int = 512


def head_layer(kind: str, c_in: int, c_out: int, expansion: int, norm: bool = False) -> nn.Sequential:
    """One layer of the key-point head (the paper's tables I and II): ReLU at the end, BatchNorm before it if ``norm``.

    Raises:
        ConfigError: no such kind.
    """
    end = [nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    if kind == "vanilla":
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=not norm), *end)
    if kind not in ("depthwise", "expanded"):
        raise ConfigError(f"no convolution {kind!r}; there are vanilla, depthwise and expanded")
    middle = c_in * (expansion if kind == "expanded" else 1)
    return nn.Sequential(
        nn.Conv2d(c_in, middle, 3, padding=1, groups=c_in), nn.Conv2d(middle, c_out, 1, bias=not norm), *end
    )


class KeypointHead(nn.Sequential):
    """Layers over (R, 256, 14, 14) features of R boxes; Xavier weights, as stated."""

    def __init__(self, config: KeypointRcnnConfig, c_in: int = 256) -> None:
        widths = [c_in, *[config.width] * config.layers]
        super().__init__(*(head_layer(config.conv, a, b, config.expansion, config.norm) for a, b in pairwise(widths)))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class SingleLevel(nn.Module):
    """The features of stride 16 alone, brought to 256 channels; the form of torchvision's pyramids."""

    out_channels = 256

    def __init__(self, features: nn.Sequential, last: int, c_in: int) -> None:
        super().__init__()
        self.body = features[: last + 1]
        self.align = nn.Conv2d(c_in, 256, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"0": self.align(self.body(x))}


class PyramidV1(nn.Module):
    """MobileNetV1 with torchvision's feature pyramid over strides 4 to 32 and a pooled fifth level."""

    out_channels = 256

    def __init__(self) -> None:
        super().__init__()
        from torchvision.ops.feature_pyramid_network import (  # pyright: ignore[reportMissingImports]
            FeaturePyramidNetwork,
            LastLevelMaxPool,
        )

        self.body = MobileNetV1(blocks=13)
        self.pyramid = FeaturePyramidNetwork([128, 256, 512, 1024], 256, LastLevelMaxPool())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.pyramid({str(i): level for i, level in enumerate(self.body(x))})


def make_backbone(levels: str, backbone: str) -> nn.Module:
    """A backbone with a feature pyramid (and a pooled fifth level), or MobileNetV3-Large with its stride 16 alone.

    Raises:
        ConfigError: no such levels or backbone.
        MissingExtraError: torchvision is missing.
    """
    if backbone == "mobilenet_v1" and levels == "fpn":
        return PyramidV1()
    if backbone == "resnet50" and levels == "fpn":
        return _resnet50()
    if backbone != "mobilenet_v3":
        raise ConfigError(
            f"no backbone {backbone!r} with levels {levels!r}; there are mobilenet_v3, and mobilenet_v1 and resnet50"
            " with fpn"
        )
    from torchvision.models import mobilenet_v3_large  # pyright: ignore[reportMissingImports]
    from torchvision.models.detection.backbone_utils import BackboneWithFPN  # pyright: ignore[reportMissingImports]

    if levels not in LEVELS:
        raise ConfigError(f"no levels {levels!r}; there are {', '.join(LEVELS)}")
    features, taken = mobilenet_v3_large().features, LEVELS[levels]
    if levels == "c4":
        return SingleLevel(features, *next(iter(taken.items())))
    # torchvision's own mobilenet_backbone takes two maps that are both of stride 32.
    names = {str(index): str(i) for i, index in enumerate(taken)}
    return BackboneWithFPN(features, names, list(taken.values()), 256)


def _resnet50() -> nn.Module:
    """torchvision's ResNet-50 with a feature pyramid; BatchNorm frozen, without epsilon, as its weights have it."""
    from torchvision.models import resnet50  # pyright: ignore[reportMissingImports]
    from torchvision.models.detection.backbone_utils import BackboneWithFPN  # pyright: ignore[reportMissingImports]
    from torchvision.ops import FrozenBatchNorm2d  # pyright: ignore[reportMissingImports]

    body = resnet50(norm_layer=lambda channels: FrozenBatchNorm2d(channels, eps=0.0))
    names = {f"layer{i + 1}": str(i) for i in range(4)}
    return BackboneWithFPN(body, names, [256, 512, 1024, 2048], 256)


class KeypointRcnn(Network):
    """Detector of people with a key-point head over each.

    Input (N, 3, H, W), RGB by ``mean`` and ``std``, H and W multiples of 32. Output in evaluation: a dict an image of
    ``boxes`` (P, 4) x0, y0, x1, y1 and ``keypoints`` (P, K, 3) in input pixels, ``scores`` (P,) and
    ``keypoints_scores`` (P, K) in [0, 1]. In training, with ``targets`` in the same form (``boxes``, ``labels``,
    ``keypoints``), a dict of losses.
    """

    Config = KeypointRcnnConfig
    mean, std = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

    def __init__(self, config: KeypointRcnnConfig | None = None, head: InstanceHead = COCO_INSTANCES) -> None:
        super().__init__()
        from torchvision.models.detection import KeypointRCNN  # pyright: ignore[reportMissingImports]
        from torchvision.models.detection.anchor_utils import AnchorGenerator  # pyright: ignore[reportMissingImports]

        self.config = config = config or KeypointRcnnConfig()
        if min(config.expansion, config.layers, config.width, config.detections, config.rois) < 1:
            raise ConfigError("expansion, layers, width, detections and rois must be at least 1")
        if config.size < 32 or config.size % 32:
            raise ConfigError(f"size={config.size}: must be a multiple of 32")
        self.head, self.multiple = head, 32
        sizes = (32, 64, 128, 256, 512)
        anchors = tuple((s,) for s in sizes) if config.levels == "fpn" else (sizes,)
        self.detector = KeypointRCNN(
            make_backbone(config.levels, config.backbone),
            num_classes=2,
            rpn_anchor_generator=AnchorGenerator(anchors, ((0.5, 1.0, 2.0),) * len(anchors)),
            keypoint_head=KeypointHead(config),
            keypoint_predictor=_predictor(config.width, len(head.skeleton)),
            box_detections_per_img=config.detections,
            box_batch_size_per_image=config.rois,
            # Images come scaled and fitted to config.size; others the detector's own transform brings there and back.
            min_size=config.size,
            max_size=config.size,
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
        )
        if config.backbone == "mobilenet_v1":
            self.mean, self.std = MobileNetV1.mean, MobileNetV1.std
        self.train()  # with BatchNorm frozen from the first step on

    @property
    def backbone(self) -> Any:
        """The backbone without its pyramid."""
        return self.detector.backbone.body

    def train(self, mode: bool = True) -> KeypointRcnn:
        """As of any module, but BatchNorm of the backbone stays frozen at its averages, unless it was asked not to."""
        super().train(mode)
        if not self.config.freeze_norm:
            return self
        for layer in batch_norms(self.detector.backbone):
            layer.eval().requires_grad_(False)
        return self

    def forward(self, x: Tensor, targets: list[dict[str, Tensor]] | None = None) -> Any:
        check_size(x, self.multiple)
        out = self.detector(list(x), targets)
        if not self.training:
            for people in out:
                people["keypoints_scores"] = (NEAR / CELLS * people["keypoints_scores"].exp()).clamp(max=1)
        return out

    def load_imagenet(self, pretrained: str | Path) -> None:
        """Load ``features.*`` of a MobileNetV3-Large: a file or ``torchvision:mobilenet_v3_large``; or a MobileNetV1's.

        Raises:
            ConfigError: a tensor is missing; this is no such backbone.
        """
        backbone: Any = self.detector.backbone
        if isinstance(backbone, PyramidV1):
            return backbone.body.load_imagenet(pretrained)
        body, state = backbone.body, read_pretrained(pretrained)
        wanted = {name: f"features.{name}" for name in body.state_dict() if not name.endswith("num_batches_tracked")}
        missing = [key for key in wanted.values() if key not in state]
        if missing:
            raise ConfigError(f"{pretrained}: no tensor {missing[0]!r}; this is not a MobileNetV3-Large ImageNet start")
        body.load_state_dict({name: state[key] for name, key in wanted.items()}, strict=False)


def _log_ratios(predictor: nn.Module, _: Any, maps: Tensor) -> Tensor:
    """In evaluation: of a joint's map (R, K, 56, 56) the logarithms of its cells' shares over that of an even map.

    The loss is that of a choice among cells, which leaves it open where the values of a map lie as a whole: of wrists
    that sat right they lay from -15 to beyond 15, and a threshold on the values themselves dropped three of four.
    """
    return maps if predictor.training else maps - (maps.flatten(2).logsumexp(2) - math.log(CELLS))[..., None, None]


def _predictor(width: int, joints: int) -> nn.Module:
    """4x4 transposed convolution to 28x28 maps, then bilinear to 56x56; Xavier weights."""
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor  # pyright: ignore

    predictor = KeypointRCNNPredictor(width, joints)
    nn.init.xavier_uniform_(predictor.kps_score_lowres.weight)
    predictor.register_forward_hook(_log_ratios)
    return predictor
