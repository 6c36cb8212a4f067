"""Networks, one system per file, and the table of their names."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from pathlib import Path
from typing import Any

from ..errors import ConfigError, MissingExtraError
from ..heads.base import Head
from ..heads.boxes import BoxHead
from ..skeleton import Skeleton
from .base import Network, Scaled
from .binary_paf import BinaryPaf
from .context_cpm import ContextCpm
from .keypoint_rcnn import KeypointRcnn
from .lithe import Lithe
from .lithe_paf import LithePaf
from .multilevel import Multilevel
from .openpose import LightweightOpenPose, OpenPose
from .person_detector import PersonDetector
from .split_stream import JointRegression, SplitStream

__all__ = ["NETWORKS", "Network", "Scaled", "build", "default_head", "head_of", "load_imagenet"]

NETWORKS: dict[str, type[Network]] = {
    "lithe": Lithe,
    "lithe_paf": LithePaf,
    "person_detector": PersonDetector,
    "openpose": OpenPose,
    "lightweight_openpose": LightweightOpenPose,
    "binary_paf": BinaryPaf,
    "multilevel": Multilevel,
    "context_cpm": ContextCpm,
    "split_stream": SplitStream,
    "joint_regression": JointRegression,
    "keypoint_rcnn": KeypointRcnn,
}


def build(name: str, head: Head[Any] | BoxHead | None = None, **options: Any) -> Network:
    """Build a network by name.

    Args:
        name: key of :data:`NETWORKS`.
        head: meaning of its outputs; by default that of its paper, see :func:`default_head`.
        options: fields of its config.

    Raises:
        ConfigError: the network, an option or an option's value does not exist.
        MissingExtraError: keypoint_rcnn without torchvision.
    """
    network = _network(name)
    known = [field.name for field in fields(network.Config)]
    if "backbone" in known and "front" in options:  # the option's name in version 0.1
        options["backbone"] = options.pop("front")
    for option in options:
        if option not in known:
            raise ConfigError(f"{name} has no option {option!r}; choose one of {', '.join(known)}")
    try:
        return network(network.Config(**options), *([head] if head else []))
    except ImportError as error:
        raise MissingExtraError(f"{name} needs {error.name}: pip install 'lithepose[train]' ({error})") from error
    except (RuntimeError, TypeError) as error:  # torch's error for invalid sizes
        raise ConfigError(f"{name} with {options}: {error}") from error


def default_head(name: str) -> Head[Any] | BoxHead:
    """Return the head that a network has by default.

    Raises:
        ConfigError: the network does not exist.
    """
    return signature(_network(name)).parameters["head"].default


def head_of(name: str, skeleton: Skeleton) -> Head[Any]:
    """Return a network's head for other joints.

    Raises:
        ConfigError: the network finds only boxes, or cannot group people with these joints.
    """
    head = default_head(name)
    if isinstance(head, BoxHead):
        raise ConfigError(f"{name}: finds boxes, not joints; omit the skeleton")
    return head.with_skeleton(skeleton)


def load_imagenet(net: Network, pretrained: str | Path) -> None:
    """Load pretrained weights into the backbone of a network.

    Args:
        net: the network.
        pretrained: see :func:`lithepose.networks.weights.read_pretrained`.

    Raises:
        ConfigError: the weights do not belong to the network's backbone.
    """
    own: Any = net if isinstance(net, KeypointRcnn) else getattr(net, "backbone")  # noqa: B009
    own.load_imagenet(pretrained)


def _network(name: str) -> type[Network]:
    if name not in NETWORKS:
        raise ConfigError(f"unknown network {name!r}; choose one of {', '.join(NETWORKS)}")
    return NETWORKS[name]
