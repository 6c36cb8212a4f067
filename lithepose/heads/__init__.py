"""What each kind of network output means: encode, decode and flip side by side, one file a kind."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from ..skeleton import Skeleton
from .base import Head
from .boxes import BoxHead
from .heatmaps import HeatmapHead
from .pafs import PafHead
from .people import CoordinateHead, CropHead, InstanceHead

HEADS: dict[str, type[Head[Any] | BoxHead]] = {
    head.__name__: head for head in (HeatmapHead, PafHead, CropHead, CoordinateHead, InstanceHead, BoxHead)
}


def head_to_dict(head: Head[Any] | BoxHead) -> dict[str, Any]:
    """For the metadata of a model file."""
    data = asdict(head)
    data.pop("output_order", None)
    return {"type": type(head).__name__, **data}


def head_from_dict(data: dict[str, Any], info: dict[str, Any]) -> Head[Any] | BoxHead:
    """Read what :func:`head_to_dict` wrote.

    Args:
        data: of the head. Files of version 0.1 have no ``type``; it follows from the other entries.
        info: the rest of the file's metadata.
    """
    kind = HEADS[data["type"]] if "type" in data else _type_before_0_2(data, info)
    values = {f.name: data[f.name] for f in fields(kind) if f.init and f.name in data}
    for name in ("skeleton", "output"):
        if name in values:
            values[name] = _skeleton(values[name])
    if "limbs" in values:
        values["limbs"] = tuple((a, b) for a, b in values["limbs"])
    if "strides" in values:
        values["strides"] = tuple(values["strides"])
    return kind(**values)


def _type_before_0_2(data: dict[str, Any], info: dict[str, Any]) -> type[Head[Any] | BoxHead]:
    if "skeleton" not in data:
        return BoxHead
    if info.get("single"):
        return InstanceHead
    if info.get("fixed"):
        return CoordinateHead
    return CropHead if info.get("crop") else PafHead if data["limbs"] else HeatmapHead


def _skeleton(data: dict[str, Any]) -> Skeleton:
    pairs = {key: tuple((a, b) for a, b in data[key]) for key in ("edges", "flip_pairs")}
    return Skeleton(data["name"], tuple(data["joints"]), sigmas=tuple(data["sigmas"]), **pairs)
