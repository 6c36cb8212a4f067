"""Meaning of each kind of network output: encoding, decoding and flipping, one kind per file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, fields
from typing import Any, TypeVar

from ..errors import ConfigError, ModelError
from ..skeleton import Skeleton
from .base import Head
from .boxes import BoxHead
from .heatmaps import HeatmapHead
from .pafs import PafHead
from .people import CoordinateHead, CropHead, InstanceHead

T = TypeVar("T")

HEADS: dict[str, type[Head[Any] | BoxHead]] = {
    head.__name__: head for head in (HeatmapHead, PafHead, CropHead, CoordinateHead, InstanceHead, BoxHead)
}


def of_kind(table: Mapping[type, T], head: object) -> T:
    """Return a table's entry for the type of a head, or for its nearest base class.

    Raises:
        ConfigError: the table has no entry for it.
    """
    for kind in type(head).__mro__:
        if kind in table:
            return table[kind]
    known = ", ".join(kind.__name__ for kind in table)
    raise ConfigError(f"{type(head).__name__}: unsupported kind of output; supported: {known}")


def head_to_dict(head: Head[Any] | BoxHead) -> dict[str, Any]:
    """Convert a head to a dict, for the metadata of a model file."""
    data = asdict(head)
    data.pop("output_order", None)
    return {"type": type(head).__name__, **data}


def head_from_dict(data: dict[str, Any], info: dict[str, Any]) -> Head[Any] | BoxHead:
    """Convert the result of :func:`head_to_dict` back to a head.

    Args:
        data: entry of the head. Files of version 0.1 have no ``type``; it follows from the other entries.
        info: the rest of the file's metadata.
    """
    if data.get("type", "BoxHead") not in HEADS:
        raise ModelError(f"output kind {data['type']} is not supported by this version; update lithepose")
    kind = HEADS[data["type"]] if "type" in data else _type_before_0_2(data, info)
    values = {f.name: data[f.name] for f in fields(kind) if f.init and f.name in data}
    for name in ("skeleton", "output"):
        if name in values:
            values[name] = _skeleton(values[name])
    return kind(**{name: _tuples(value) for name, value in values.items()})


def _tuples(value: Any) -> Any:
    """Convert lists of JSON to the tuples that frozen dataclasses hold."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


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
