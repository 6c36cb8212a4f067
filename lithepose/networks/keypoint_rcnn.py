"""hoang2020rcnn: Mask R-CNN for keypoints on MobileNetV3 with light keypoint heads.

The detector (proposals, RoIAlign, box head, losses) is torchvision's; this file adds the paper's backbone and heads.
The paper gives no numbers for e, for depth and width of the head, and for the levels of the backbone. They are chosen
here, as in Mask R-CNN where it defines them.
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

LEVELS = {  # last features of each stride of MobileNetV3-Large: index and channels
    "fpn": {3: 24, 6: 40, 12: 112, 16: 960},
    "c4": {12: 112},
}


CELLS, NEAR = 56 * 56, 9  # cells of a joint's heatmap; its score is nine times the best cell's share


@dataclass(frozen=True)
class KeypointRcnnConfig:
    """Options of the network.

    Attributes:
        conv: convolutions of the keypoint head: vanilla, depthwise or expanded.
        expansion: depthwise filters per channel if expanded (e in the paper, which does not give its value).
        layers: number of layers of the head.
        width: channels of these layers.
        levels: fpn for a pyramid of strides 4 to 32; c4 for a single map of stride 16, as the paper may also mean.
        backbone: mobilenet_v3 as in the paper. With fpn also mobilenet_v1, to compare the heads on the other networks'
            ImageNet weights, and torchvision's resnet50 (`lithepose convert` reads its COCO weights).
        size: longer side of the input.
        detections: largest number of people in an image.
        freeze_norm: freeze BatchNorm of the backbone, as is usual with ImageNet weights and small batches. With
            random weights, BatchNorm must be trained.
        rois: boxes per image for training the heads, a quarter of them of people; determines the cost of a step.
        norm: BatchNorm in the head before each ReLU; the paper does not mention any.

    Images are letterboxed to size x size. "Resized to 320x320" in the paper could also mean warping, which
    :mod:`lithepose.inference.predictor` does not support.
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
    """One layer of the keypoint head (the paper's tables I and II): ReLU at the end, BatchNorm before it if ``norm``.

    Raises:
        ConfigError: the kind does not exist.
    """
    end = [nn.BatchNorm2d(c_out), nn.ReLU(inplace=True)] if norm else [nn.ReLU(inplace=True)]
    if kind == "vanilla":
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, padding=1, bias=not norm), *end)
    if kind not in ("depthwise", "expanded"):
        raise ConfigError(f"unknown convolution {kind!r}; choose vanilla, depthwise or expanded")
    middle = c_in * (expansion if kind == "expanded" else 1)
    return nn.Sequential(
        nn.Conv2d(c_in, middle, 3, padding=1, groups=c_in), nn.Conv2d(middle, c_out, 1, bias=not norm), *end
    )


class KeypointHead(nn.Sequential):
    """Layers for (R, 256, 14, 14) features of R boxes, with Xavier weights as in the paper."""

    def __init__(self, config: KeypointRcnnConfig, c_in: int = 256) -> None:
        widths = [c_in, *[config.width] * config.layers]
        super().__init__(*(head_layer(config.conv, a, b, config.expansion, config.norm) for a, b in pairwise(widths)))
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


class SingleLevel(nn.Module):
    """Only the features of stride 16, with 256 channels, in the form of torchvision's pyramids."""

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
    """Make a backbone with a feature pyramid (and a pooled fifth level), or MobileNetV3-Large with only stride 16.

    Raises:
        ConfigError: the levels or the backbone do not exist.
        MissingExtraError: torchvision is not installed.
    """
    if backbone == "mobilenet_v1" and levels == "fpn":
        return PyramidV1()
    if backbone == "resnet50" and levels == "fpn":
        return _resnet50()
    if backbone != "mobilenet_v3":
        raise ConfigError(
            f"backbone {backbone!r} with levels {levels!r}: not supported; choose mobilenet_v3, or mobilenet_v1 or"
            " resnet50 with fpn"
        )
    from torchvision.models import mobilenet_v3_large  # pyright: ignore[reportMissingImports]
    from torchvision.models.detection.backbone_utils import BackboneWithFPN  # pyright: ignore[reportMissingImports]

    if levels not in LEVELS:
        raise ConfigError(f"unknown levels {levels!r}; choose one of {', '.join(LEVELS)}")
    features, taken = mobilenet_v3_large().features, LEVELS[levels]
    if levels == "c4":
        return SingleLevel(features, *next(iter(taken.items())))
    # torchvision's own mobilenet_backbone takes two maps, both of stride 32.
    names = {str(index): str(i) for i, index in enumerate(taken)}
    return BackboneWithFPN(features, names, list(taken.values()), 256)


def _resnet50() -> nn.Module:
    """torchvision's ResNet-50 with a feature pyramid; BatchNorm is frozen and without epsilon, as for its weights."""
    from torchvision.models import resnet50  # pyright: ignore[reportMissingImports]
    from torchvision.models.detection.backbone_utils import BackboneWithFPN  # pyright: ignore[reportMissingImports]
    from torchvision.ops import FrozenBatchNorm2d  # pyright: ignore[reportMissingImports]

    body = resnet50(norm_layer=lambda channels: FrozenBatchNorm2d(channels, eps=0.0))
    names = {f"layer{i + 1}": str(i) for i in range(4)}
    return BackboneWithFPN(body, names, [256, 512, 1024, 2048], 256)


class KeypointRcnn(Network):
    """Detector of people with a keypoint head for each person.

    Input (N, 3, H, W), RGB scaled by ``mean`` and ``std``, H and W multiples of 32. Output in evaluation: a dict per
    image with ``boxes`` (P, 4) x0, y0, x1, y1 and ``keypoints`` (P, K, 3) in input pixels, ``scores`` (P,) and
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
            # Images are already letterboxed to config.size. The detector's own transform handles others.
            min_size=config.size,
            max_size=config.size,
            image_mean=[0.0, 0.0, 0.0],
            image_std=[1.0, 1.0, 1.0],
        )
        if config.backbone == "mobilenet_v1":
            self.mean, self.std = MobileNetV1.mean, MobileNetV1.std
        self.train()  # so that BatchNorm is frozen from the first step

    @property
    def backbone(self) -> Any:
        """The backbone without its pyramid."""
        return self.detector.backbone.body

    def train(self, mode: bool = True) -> KeypointRcnn:
        """Set the mode as for any module, but keep BatchNorm of the backbone frozen if ``freeze_norm``."""
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
        """Load ``features.*`` of a MobileNetV3-Large (file or ``torchvision:mobilenet_v3_large``), or a MobileNetV1.

        Raises:
            ConfigError: a tensor is missing, because the file is another backbone.
        """
        backbone: Any = self.detector.backbone
        if isinstance(backbone, PyramidV1):
            return backbone.body.load_imagenet(pretrained)
        body, state = backbone.body, read_pretrained(pretrained)
        wanted = {name: f"features.{name}" for name in body.state_dict() if not name.endswith("num_batches_tracked")}
        missing = [key for key in wanted.values() if key not in state]
        if missing:
            raise ConfigError(
                f"{pretrained}: no tensor {missing[0]!r}; pass the ImageNet weights of a MobileNetV3-Large"
            )
        body.load_state_dict({name: state[key] for name, key in wanted.items()}, strict=False)


def _log_ratios(predictor: nn.Module, _: Any, maps: Tensor) -> Tensor:
    """In evaluation, convert a joint's map (R, K, 56, 56) to log shares of its cells, relative to a uniform map.

    The loss is a softmax over cells, so the offset of a map's values is arbitrary: for correctly located wrists it
    ranged from -15 to beyond 15, and a threshold on the values themselves dropped three of four.
    """
    return maps if predictor.training else maps - (maps.flatten(2).logsumexp(2) - math.log(CELLS))[..., None, None]


def _predictor(width: int, joints: int) -> nn.Module:
    """4x4 transposed convolution to 28x28 maps, then bilinear upsampling to 56x56; Xavier weights."""
    from torchvision.models.detection.keypoint_rcnn import KeypointRCNNPredictor  # pyright: ignore

    predictor = KeypointRCNNPredictor(width, joints)
    nn.init.xavier_uniform_(predictor.kps_score_lowres.weight)
    predictor.register_forward_hook(_log_ratios)
    return predictor
