"""What every runtime takes and gives, and what a model file says about itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np

from ..arrays import UInt8
from ..errors import ModelError
from ..heads import head_from_dict, head_to_dict
from ..heads.base import Head
from ..heads.boxes import BoxHead
from ..heads.outputs import Boxes, Found, Maps, Output

MAPS = ("heatmaps", "pafs", "peak_score", "peak_cell")  # without pafs where a head has none
FOUND = ("xy", "score", "person_score")
BOXES = ("boxes", "box_score")


@dataclass(frozen=True)
class ModelInfo:
    """What an exported file says about its network.

    Attributes:
        name: of the network.
        head: what its outputs mean.
        multiple: height and width of the input must be multiples of it.
        size: longer side of the input that its scores were measured at, the default.
        crop: (height, width) of its input, a crop around one person; () for networks that take whole images.
        small_crop: (height, width) of smaller crops, for people followed in videos; () where there are none.
        precision: that the file computes in where nothing else is asked for: fp32 or int8.
    """

    name: str
    head: Head[Any] | BoxHead
    multiple: int
    size: int
    crop: tuple[int, ...] = ()
    small_crop: tuple[int, ...] = ()
    precision: str = "fp32"

    @property
    def joints_head(self) -> Head[Any]:
        """The head of a network that finds joints.

        Raises:
            ModelError: it finds boxes alone.
        """
        if isinstance(self.head, BoxHead):
            raise ModelError(f"{self.name}: finds boxes of people, no joints; name a pose model")
        return self.head

    @property
    def batched(self) -> bool:
        """Inputs of one size run together."""
        return self.head.batched

    @property
    def fixed_size(self) -> bool:
        """The input is always ``size`` x ``size``."""
        return self.head.fixed_size

    def to_json(self) -> str:
        """For the metadata of a model file."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(own | {"head": head_to_dict(self.head)})

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """Read what :meth:`to_json` wrote, or version 0.1 did."""
        data = json.loads(text)
        head = head_from_dict(data["head"], data)
        if data["name"] == "lithe" and data["head"].get("limbs"):  # what lithe_paf was called in version 0.1
            data["name"] = "lithe_paf"
        crop, small_crop = (tuple(data.get(key, ())) for key in ("crop", "small_crop"))
        precision = data.get("precision", "fp32")
        return cls(data["name"], head, data["multiple"], data["size"], crop, small_crop, precision)


class Runtime(Protocol):
    """Runs a network.

    Attributes:
        info: what the model's file says.
    """

    info: ModelInfo

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """(N, H, W, 3) uint8 RGB -> what the network predicts for each."""
        ...


def about(runtime: Runtime) -> str:
    """What runs a network, for people: program, precision and threads."""
    return getattr(runtime, "about", type(runtime).__name__)


def run_batch(
    info: ModelInfo,
    names: Sequence[str],
    images: UInt8[np.ndarray, "n h w 3"],
    run: Callable[[np.ndarray], Sequence[np.ndarray]],
    single: bool = False,
) -> list[Output]:
    """What a network predicts for each image of a batch; one at a time where its outputs do not stack.

    Args:
        info: of the network.
        names: of its outputs.
        images: of one size.
        run: (N, H, W, 3) uint8 -> the arrays of all outputs, stacked over the images.
        single: the file takes batches of one image, as ``lithepose export --fixed`` writes it.
    """
    if not info.batched:
        rows = (run(image[None]) for image in images)
    elif single:
        rows = (row for image in images for row in zip(*run(image[None]), strict=True))
    else:
        rows = zip(*run(images), strict=True)
    return [to_output(dict(zip(names, row, strict=True))) for row in rows]


def to_output(arrays: dict[str, np.ndarray]) -> Output:
    """Named arrays of one image, as graphs return them -> what heads decode."""
    if "boxes" in arrays:
        return Boxes(arrays["boxes"], arrays["box_score"])
    if "xy" in arrays:
        return Found(*(arrays[name] for name in FOUND))
    heatmaps = arrays["heatmaps"]
    pafs = arrays.get("pafs", arrays.get("fields"))  # as files of version 0.1 call them
    if pafs is None:
        pafs = np.empty((0, *heatmaps.shape[1:]), np.float32)
    return Maps(heatmaps, pafs, arrays["peak_score"], arrays["peak_cell"])
