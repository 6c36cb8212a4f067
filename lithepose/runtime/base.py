"""What a model file says about itself, and what a runtime is; below everything that runs or reads a network."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np

from ..heads.decode import Output
from ..heads.outputs import Boxes, Found, Maps
from ..skeleton import BoxHead, Head, Skeleton

MAPS = ("heatmaps", "fields", "peak_score", "peak_cell")  # fields are missing where a head has no limbs
FOUND = ("xy", "score", "person_score")  # of networks without maps
BOXES = ("boxes", "box_score")  # of person detectors


@dataclass(frozen=True)
class ModelInfo:
    """What an exported file says about itself, kept in its metadata under ``lithepose``.

    Attributes:
        name: of the network.
        head: what its outputs mean.
        multiple: height and width of the input must be multiples of it.
        size: longer side of the input that its scores were measured at, the default.
        single: it takes one image at a time (the number of people varies, so images do not stack).
        fixed: its input is always ``size`` x ``size``.
        crop: (height, width) of its input, a crop around one person; () for networks that take whole images.
        small_crop: (height, width) of smaller crops that it was trained on as well, for people followed in videos; ()
            where there are none.
    """

    name: str
    head: Head | BoxHead
    multiple: int
    size: int
    single: bool = False
    fixed: bool = False
    crop: tuple[int, ...] = ()
    small_crop: tuple[int, ...] = ()

    @property
    def joints_head(self) -> Head:
        """The head of a network that finds joints.

        Raises:
            ValueError: it finds boxes alone.
        """
        if not isinstance(self.head, Head):
            raise ValueError(f"{self.name}: finds boxes of people, no joints; name a pose model")
        return self.head

    def to_json(self) -> str:
        head = asdict(self.head)
        head.pop("output_order", None)
        return json.dumps(asdict(self) | {"head": head})

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        data = json.loads(text)
        data |= {key: tuple(data.get(key, ())) for key in ("crop", "small_crop")}
        head = data["head"]
        if "skeleton" not in head:
            return cls(**data | {"head": BoxHead(tuple(head["strides"]))})
        if data["name"] == "lithe" and head["limbs"]:  # what the bottom-up network was called before version 0.2
            data["name"] = "lithe_paf"
        skeletons = {k: _skeleton(head.pop(k)) for k in ("skeleton", "output")}
        limbs = tuple((a, b) for a, b in head.pop("limbs"))
        return cls(**data | {"head": Head(limbs=limbs, **skeletons, **head)})


def _skeleton(data: dict[str, Any]) -> Skeleton:
    pairs = {k: tuple((a, b) for a, b in data[k]) for k in ("edges", "flip_pairs")}
    return Skeleton(data["name"], tuple(data["joints"]), sigmas=tuple(data["sigmas"]), **pairs)


class Runtime(Protocol):
    """What runs a network."""

    info: ModelInfo

    def __call__(self, images: np.ndarray) -> list[Output]:
        """(N, H, W, 3) uint8 RGB -> what the network predicts for each."""
        ...


def to_result(output: dict[str, np.ndarray]) -> Output:
    """Named outputs of one image -> what the decoder reads."""
    if "boxes" in output:
        return Boxes(output["boxes"], output["box_score"])
    if "xy" in output:
        return Found(*(output[name] for name in FOUND))
    heatmaps = output["heatmaps"]
    fields = output.get("fields", np.empty((0, *heatmaps.shape[1:]), np.float32))
    return Maps(heatmaps, fields, output["peak_score"], output["peak_cell"])
