"""Networks, one paper a file, and the one table that names them."""

from __future__ import annotations

from dataclasses import fields, replace
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..skeleton import BoxHead, Head, Skeleton
from .binary_paf import BinaryPaf
from .context_cpm import ContextCpm
from .keypoint_rcnn import KeypointRcnn
from .lithe import Lithe
from .lithe_paf import LithePaf
from .multilevel import Multilevel
from .openpose import OpenPose
from .person_detector import PersonDetector
from .split_stream import JointRegression, SplitStream

NETWORKS = {
    "lithe": Lithe,
    "lithe_paf": LithePaf,
    "person_detector": PersonDetector,
    "openpose": OpenPose,
    "binary_paf": BinaryPaf,
    "multilevel": Multilevel,
    "context_cpm": ContextCpm,
    "split_stream": SplitStream,
    "joint_regression": JointRegression,
    "keypoint_rcnn": KeypointRcnn,
}

# What networks answer with, their ``kind``: maps (heatmaps and limb fields), xy (coordinates of one person) or boxes
# (people, each with its joints), or people (boxes alone).
Network = (
    Lithe
    | LithePaf
    | PersonDetector
    | OpenPose
    | Multilevel
    | ContextCpm
    | SplitStream
    | JointRegression
    | KeypointRcnn
)


def build(name: str, head: Head | BoxHead | None = None, **options: Any) -> Network:
    """Make a network by name.

    Args:
        name: key of :data:`NETWORKS`.
        head: what its maps shall mean; by default what its paper has, see :func:`default_head`.
        options: fields of its config.

    Raises:
        ValueError: no such network or option, or an option's value that it does not have.
        ImportError: keypoint_rcnn without torchvision.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    network = NETWORKS[name]
    known = [field.name for field in fields(network.Config)]
    for option in options:
        if option not in known:
            raise ValueError(f"{name} has no option {option!r}; there are {', '.join(known)}")
    try:
        return network(network.Config(**options), *([head] if head else []))
    except (RuntimeError, TypeError) as error:  # torch's words for sizes that make no tensor
        raise ValueError(f"{name} with {options}: {error}") from error


def default_head(name: str) -> Head | BoxHead:
    """The head that a network has if no other is asked for.

    Raises:
        ValueError: no such network.
    """
    if name not in NETWORKS:
        raise ValueError(f"no network {name!r}; there are {', '.join(NETWORKS)}")
    return signature(NETWORKS[name]).parameters["head"].default


def head_of(name: str, skeleton: Skeleton) -> Head:
    """A network's head for other joints; limbs are the skeleton's edges, if the network has fields.

    Raises:
        ValueError: limbs that do not join all joints of a network of many people, or a skeleton of a single joint.
    """
    head = default_head(name)
    if isinstance(head, BoxHead):
        raise ValueError(f"{name}: finds boxes and has no joints; leave the skeleton out")
    if not head.limbs:
        return replace(head, skeleton=skeleton, output=skeleton, limbs=())
    if not skeleton.edges:
        raise ValueError(
            f"skeleton {skeleton.name}: has no edges, by which {name} finds people; take context_cpm, one of an image"
        )
    joined, more = {0}, True
    while more:
        more = [b for pair in skeleton.edges for a, b in (pair, pair[::-1]) if a in joined and b not in joined]
        joined.update(more)
    if len(joined) < len(skeleton):
        loose = ", ".join(joint for i, joint in enumerate(skeleton.joints) if i not in joined)
        raise ValueError(
            f"skeleton {skeleton.name}: its edges do not join {loose} with {skeleton.joints[0]}; {name} finds people by"
            " limbs, so every joint must hang on another"
        )
    return replace(head, skeleton=skeleton, output=skeleton, limbs=skeleton.edges)


def load_imagenet(net: Network, start: str | Path) -> None:
    """Give a network's front its ImageNet start; see :func:`lithepose.networks.weights.read_start`.

    Raises:
        ValueError: the start is another network's than the front.
    """
    own: Any = net if isinstance(net, KeypointRcnn) else getattr(net, "backbone", None) or net.front
    own.load_imagenet(start)


class Scaled(nn.Module):
    """Pixels -> what a network was trained with: (N, 3, H, W) of 0..255 to (x - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, net: Network) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(net.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(net.std).view(1, 3, 1, 1), persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        return (image.float() - self.mean) / self.std
