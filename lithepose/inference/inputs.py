"""Images as models take them -> (H, W, 3) uint8 RGB."""

from __future__ import annotations

from glob import has_magic
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ..errors import ImageError
from ..media.image import as_rgb, decode_image, read_image
from ..media.inputs import ADDRESS, VIDEOS
from ..media.sources import read_address


class _Convertible(Protocol):
    """A PIL image, recognised by its method."""

    def convert(self, mode: str) -> Any: ...


class _Readable(Protocol):
    """An open file."""

    def read(self) -> bytes: ...


ImageInput = str | Path | bytes | np.ndarray | _Convertible | _Readable
Images = list[ImageInput] | tuple[ImageInput, ...]


def several(image: object) -> list[Any] | None:
    """The images of a list, a tuple or an (N, H, W, C) array; None for one image."""
    if isinstance(image, (list, tuple)) or (isinstance(image, np.ndarray) and image.ndim == 4):
        return list(image)
    return None


def reversed_channels(image: Any) -> Any:
    """An array with its first three channels in reverse order."""
    if not isinstance(image, np.ndarray) or image.ndim != 3:
        return image
    return np.ascontiguousarray(np.concatenate([image[..., 2::-1], image[..., 3:]], 2))


def _check_still(source: str | Path | int) -> None:
    """Refuse a source that is not an image, by its name.

    Raises:
        ImageError: it is not an image; the message says how to read it.
    """
    path = Path(str(source))
    kind = "a camera number" if isinstance(source, int) or str(source).isdecimal() else ""
    if not ADDRESS.match(str(source)):
        kind = "a video" if path.suffix.lower() in VIDEOS else kind
        kind = "a folder" if path.is_dir() else kind
        kind = "a pattern" if has_magic(str(source)) else kind
    if kind and not path.is_file():
        raise ImageError(f"{source}: is {kind}; use model.stream({str(source)!r}) to read its frames")
    if kind == "a video":
        raise ImageError(f"{source}: is a video; use model.stream({str(source)!r}) to read its frames")


def open_image(image: Any) -> np.ndarray:
    """(H, W, 3) uint8 RGB of any input that :class:`~lithepose.inference.estimator.Estimator` takes.

    Raises:
        ImageError: it is not an image.
    """
    if isinstance(image, (str, Path, int)):
        _check_still(image)
        image = str(image)
        return read_address(image) if ADDRESS.match(str(image)) else read_image(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return decode_image(bytes(image))
    if hasattr(image, "read") and not hasattr(image, "convert"):
        try:
            data = image.read()
        except UnicodeDecodeError:
            data = ""
        if isinstance(data, str):
            raise ImageError(f"{image!r}: file is opened in text mode; open it with open(path, 'rb')")
        return decode_image(data)
    return as_rgb(image)
