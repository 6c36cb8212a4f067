"""Names of tensors in public checkpoints, mapped to the names here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Names = dict[str, str]  # of layers: from lithepose's to the checkpoint's

VGG = "1_1 1_2 2_1 2_2 3_1 3_2 3_3 3_4 4_1 4_2".split()  # conv1_1 and so on, the layers of VGG-19 in OpenPose
VGG_LAYERS = 0, 2, 5, 7, 10, 12, 14, 16, 19, 21  # their indices in torchvision's list
BLOCKS = 11  # of MobileNetV1
SEPARABLE = {"dw": 0, "dw_bn": 1, "pw": 3, "pw_bn": 4}


@dataclass(frozen=True)
class Source:
    """A kind of public checkpoint.

    Attributes:
        network: network to convert to.
        options: function from the tensors of a file to the network's options.
        layers: function from these options to the names of the layers.
        stem: first layer here, if the checkpoint's takes BGR.
        beside: pattern of tensors in the file that are not needed.
        about: source of the checkpoint.
        licence: licence of the weights, as stated by their authors.
    """

    network: str
    options: Callable[[Mapping[str, Tensor]], dict[str, Any]]
    layers: Callable[[dict[str, Any]], Names]
    about: str
    licence: str
    stem: str = ""
    beside: str = r"num_batches_tracked$"


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Return the highest number that a pattern finds in the names, plus one; 0 if it finds none."""
    found = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1


def _openpose(options: dict[str, Any]) -> Names:
    names = {f"backbone.features.{i}": f"conv{name}" for i, name in zip(VGG_LAYERS, VGG, strict=True)}
    names |= {"cpm.0.0": "conv4_3_CPM", "cpm.1.0": "conv4_4_CPM"}
    for branch, suffix in (("limbs", "L1"), ("joints", "L2")):
        names |= {f"stages.0.{branch}.{i}.0": f"conv5_{i + 1}_CPM_{suffix}" for i in range(5)}
        for stage in range(1, options["stages"]):
            names |= {f"stages.{stage}.{branch}.{i}.0": f"Mconv{i + 1}_stage{stage + 1}_{suffix}" for i in range(7)}
    return names


def _mobilenet() -> Names:
    names = {"backbone.stem.conv": "model.0.0", "backbone.stem.bn": "model.0.1"}
    for block in range(BLOCKS):
        names |= {f"backbone.blocks.{block}.{ours}": f"model.{block + 1}.{at}" for ours, at in SEPARABLE.items()}
    return names


def _convolutions(ours: str, theirs: str, count: int, norm: bool) -> Names:
    """Return the names of a sequence of convolutions, with or without BatchNorm."""
    return {f"{ours}.{i}.{part}": f"{theirs}.{i}.{part}" for i in range(count) for part in range(1 + norm)}


def _refinement(ours: str, theirs: str) -> Names:
    return {f"{ours}.align.0": f"{theirs}.initial.0"} | _convolutions(f"{ours}.around", f"{theirs}.trunk", 2, True)


def _context_cpm(options: dict[str, Any]) -> Names:
    names = _mobilenet() | _convolutions("cpm", "cpm", 2, True)
    names |= _convolutions("initial", "initial_stage.trunk", 3, True)
    names |= {f"initial.{3 + i}.0": f"initial_stage.heatmaps.{i}.0" for i in range(2)}
    for stage in range(options["stages"] - 1):
        ours, theirs = f"refinements.{stage}", f"refinement_stages.{stage}"
        for part in ("encode1", "encode2", "decode2", "decode1"):
            whole = part.replace("code", "coder")
            names |= _convolutions(f"{ours}.0.{part}", f"{theirs}.trunk.0.{whole}", 2, True)
        for block in (1, 2, 3):
            names |= _refinement(f"{ours}.{block}", f"{theirs}.trunk.{block}")
        names |= {f"{ours}.{4 + i}.0": f"{theirs}.heatmaps.{i}.0" for i in range(2)}
    return names


def _lightweight(options: dict[str, Any]) -> Names:
    names = _mobilenet() | {"align.0": "cpm.align.0", "join.0": "cpm.conv.0"}
    names |= {f"trunk.{i}.{at}": f"cpm.trunk.{i}.{at}" for i in range(3) for at in (0, 2)}
    names |= _convolutions("initial.trunk", "initial_stage.trunk", 3, False)
    stages = [("initial", "initial_stage")]
    for stage in range(options["refinements"]):
        ours, theirs = f"refinements.{stage}", f"refinement_stages.{stage}"
        stages.append((ours, theirs))
        for block in range(5):
            names |= _refinement(f"{ours}.trunk.{block}", f"{theirs}.trunk.{block}")
    for ours, theirs in stages:
        names |= {f"{ours}.{kind}.{i}.0": f"{theirs}.{kind}.{i}.0" for kind in ("heatmaps", "pafs") for i in range(2)}
    return names


def _resnet() -> Names:
    names = {"conv1": "conv1", "bn1": "bn1"}
    for layer, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at = f"layer{layer}.{block}"
            names |= {f"{at}.{kind}{i}": f"{at}.{kind}{i}" for kind in ("conv", "bn") for i in (1, 2, 3)}
            if not block:
                names |= {f"{at}.downsample.{i}": f"{at}.downsample.{i}" for i in range(2)}
    return names


def _keypoint_rcnn(_options: dict[str, Any]) -> Names:
    names = {f"backbone.body.{ours}": f"backbone.body.{theirs}" for ours, theirs in _resnet().items()}
    for kind in ("inner_blocks", "layer_blocks"):  # torchvision's names before 0.13, as in its files
        names |= {f"backbone.fpn.{kind}.{i}.0": f"backbone.fpn.{kind}.{i}" for i in range(4)}
    names |= {"rpn.head.conv.0.0": "rpn.head.conv"}
    same = [f"rpn.head.{name}" for name in ("cls_logits", "bbox_pred")]
    same += [f"roi_heads.box_head.{name}" for name in ("fc6", "fc7")]
    same += [f"roi_heads.box_predictor.{name}" for name in ("cls_score", "bbox_pred")]
    same += ["roi_heads.keypoint_predictor.kps_score_lowres"]
    names |= {name: name for name in same}
    names |= {f"roi_heads.keypoint_head.{i}.0": f"roi_heads.keypoint_head.{2 * i}" for i in range(8)}
    return {f"detector.{ours}": theirs for ours, theirs in names.items()}


SOURCES: dict[str, Source] = {
    "openpose": Source(
        "openpose",
        lambda state: {"published": True, "stages": max(1, _count(state, r"Mconv1_stage(\d+)_L1\.weight") - 1)},
        _openpose,
        "OpenPose's body network of 18 joints (pose_iter_440000.caffemodel, or a .pth made from it)",
        "academic or non-profit use only, not commercial (CMU)",
        "backbone.features.0",
    ),
    "lightweight_openpose": Source(
        "lightweight_openpose",
        lambda state: {"refinements": _count(state, r"refinement_stages\.(\d+)\.")},
        _lightweight,
        "lightweight-human-pose-estimation.pytorch (checkpoint_iter_370000.pth)",
        "Apache-2.0",
        "backbone.stem.conv",
    ),
    "context_cpm": Source(
        "context_cpm",
        lambda state: {"published": True, "act": "relu", "stages": 1 + _count(state, r"refinement_stages\.(\d+)\.")},
        _context_cpm,
        "gccpm-look-into-person-cvpr19.pytorch (LIP)",
        "Apache-2.0",
        "backbone.stem.conv",
    ),
    "keypoint_rcnn": Source(
        "keypoint_rcnn",
        lambda state: {"backbone": "resnet50", "conv": "vanilla", "size": 800},
        _keypoint_rcnn,
        "torchvision's keypointrcnn_resnet50_fpn (keypointrcnn_resnet50_fpn_coco-fc266e95.pth)",
        "BSD-3-Clause (torchvision); trained on COCO",
    ),
}
"""Whole networks by the name that ``lithepose convert --to`` takes."""
