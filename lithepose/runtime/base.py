"""Interface of all runtimes, and the metadata of a model file."""

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

MAPS = ("heatmaps", "pafs", "peak_score", "peak_cell")  # no pafs if the head has none
FOUND = ("xy", "score", "person_score")
BOXES = ("boxes", "box_score")


@dataclass(frozen=True)
class ModelInfo:
    """Metadata of an exported file.

    Attributes:
        name: name of the network.
        head: meaning of its outputs.
        multiple: height and width of the input must be multiples of it.
        size: default longer side of the input; its scores were measured at this size.
        crop: (height, width) of the input, a crop around one person; () for networks on whole images.
        small_crop: (height, width) of smaller crops, for people followed in videos; () if there are none.
        precision: default precision of the file, fp32 or int8.
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
        """Return the head of a network that finds joints.

        Raises:
            ModelError: the network only finds boxes.
        """
        if isinstance(self.head, BoxHead):
            raise ModelError(f"{self.name}: finds boxes of people, not joints; choose a pose model")
        return self.head

    @property
    def batched(self) -> bool:
        """Whether inputs of one size run as a batch."""
        return self.head.batched

    @property
    def fixed_size(self) -> bool:
        """Whether the input is always ``size`` x ``size``."""
        return self.head.fixed_size

    def to_json(self) -> str:
        """Return JSON for the metadata of a model file."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        return json.dumps(own | {"head": head_to_dict(self.head)})

    @classmethod
    def from_json(cls, text: str) -> ModelInfo:
        """Read the JSON written by :meth:`to_json` or by version 0.1."""
        data = json.loads(text)
        head = head_from_dict(data["head"], data)
        if data["name"] == "lithe" and data["head"].get("limbs"):  # name of lithe_paf in version 0.1
            data["name"] = "lithe_paf"
        crop, small_crop = (tuple(data.get(key, ())) for key in ("crop", "small_crop"))
        precision = data.get("precision", "fp32")
        return cls(data["name"], head, data["multiple"], data["size"], crop, small_crop, precision)


class Runtime(Protocol):
    """Runs a network.

    Attributes:
        info: metadata of the model's file.
    """

    info: ModelInfo

    def __call__(self, images: UInt8[np.ndarray, "n h w 3"]) -> list[Output]:
        """Run (N, H, W, 3) uint8 RGB; returns the network's prediction for each image."""
        ...


def about(runtime: Runtime) -> str:
    """Describe what runs a network: program, precision and threads."""
    return getattr(runtime, "about", type(runtime).__name__)


def run_batch(
    info: ModelInfo,
    names: Sequence[str],
    images: UInt8[np.ndarray, "n h w 3"],
    run: Callable[[np.ndarray], Sequence[np.ndarray]],
    single: bool = False,
) -> list[Output]:
    """Run a batch; one image at a time if the network's outputs do not stack.

    Args:
        info: metadata of the network.
        names: names of its outputs.
        images: images of one size.
        run: (N, H, W, 3) uint8 -> the arrays of all outputs, stacked over the images.
        single: the file only takes batches of one image, as written by ``lithepose export --fixed``.
    """
    if not info.batched:
        rows = (run(image[None]) for image in images)
    elif single:
        rows = (row for image in images for row in zip(*run(image[None]), strict=True))
    else:
        rows = zip(*run(images), strict=True)
    return [to_output(dict(zip(names, row, strict=True))) for row in rows]


def to_output(arrays: dict[str, np.ndarray]) -> Output:
    """Convert named arrays of one image, as returned by graphs, to the input of decoders."""
    if "boxes" in arrays:
        return Boxes(arrays["boxes"], arrays["box_score"])
    if "xy" in arrays:
        return Found(*(arrays[name] for name in FOUND))
    heatmaps = arrays["heatmaps"]
    pafs = arrays.get("pafs", arrays.get("fields"))  # their name in files of version 0.1
    if pafs is None:
        pafs = np.empty((0, *heatmaps.shape[1:]), np.float32)
    return Maps(heatmaps, pafs, arrays["peak_score"], arrays["peak_cell"])
