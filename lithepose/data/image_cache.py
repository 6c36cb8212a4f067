"""Decoded images in a memory-mapped file, so that each image is decoded once and not in every epoch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np

from ..errors import MissingFileError, OutputError
from .coco import ImageFiles, ImageRecord, KeypointSet, check_size

LONGEST = 512  # pixels of an image's longer side; a crop of 256x192 rarely needs more


class ImageCache:
    """The decoded images of a data set.

    Args:
        files: where the images are.
        names: their names in ``files``.
        folder: folder of the cache file. The file is named after the images' names and sizes, and written if missing.

    Raises:
        OSError: there is no space for the file.
        ImageError: an image cannot be read; names it.
    """

    def __init__(self, files: ImageFiles, names: Sequence[str], folder: Path) -> None:
        key = hashlib.sha256(json.dumps([LONGEST, *[(n, files.size(n)) for n in names]]).encode()).hexdigest()[:16]
        path = folder / f"images-{key}.bin"
        index = path.with_suffix(".json")
        places = _places(path, index)
        if places is None:
            folder.mkdir(parents=True, exist_ok=True)
            _write(files, names, path, index)
            places = _places(path, index)
        assert places is not None
        self._places, self._pixels = places, np.memmap(path, np.uint8, "r")

    def __getitem__(self, number: int) -> np.ndarray:
        """Return (H, W, 3) uint8 RGB of one image, as a view of the file."""
        offset, height, width = self._places[number, :3]
        return self._pixels[offset : offset + height * width * 3].reshape(height, width, 3)

    def scale(self, number: int) -> np.ndarray:
        """Return (2,) cached pixels per pixel of the original, horizontal and vertical."""
        _, height, width, original_height, original_width = self._places[number]
        return np.array([width / original_width, height / original_height])

    def original_size(self, number: int) -> tuple[int, int]:
        """Return (width, height) of the original."""
        return int(self._places[number, 4]), int(self._places[number, 3])


def open_cache(opened: KeypointSet, records: Sequence[ImageRecord], folder: Path) -> ImageCache:
    """Open the decoded images of some records of a data set.

    Raises:
        MissingFileError: images are missing.
        DatasetError: an image's size differs from its record.
    """
    names = [record.file_name for record in records]
    if lost := [name for name in names if name not in opened.files]:
        raise MissingFileError(
            f"{opened.name}: {len(lost)} of its {len(names)} images are missing, such as {', '.join(lost[:3])}; set"
            " `images` to their folder, or remove them from the annotations"
        )
    cache = ImageCache(opened.files, names, folder)
    for number, record in enumerate(records):
        check_size(record.file_name, (record.width, record.height), cache.original_size(number), opened.name)
    return cache


def _places(path: Path, index: Path) -> np.ndarray | None:
    """Read (N, 5): offset, height, width, original height and width of each image; None if a file is incomplete."""
    try:
        places = np.array(json.loads(index.read_text(encoding="utf-8")), np.int64).reshape(-1, 5)
        _, height, width, _, _ = places.T
        return places if path.stat().st_size == 3 * int((height * width).sum()) else None
    except (OSError, ValueError):
        return None


def _write(files: ImageFiles, names: Sequence[str], path: Path, index: Path) -> None:
    """Write the pixels, then the index. A file without an index is written again."""
    places, offset = list[tuple[int, ...]](), 0
    beside = path.with_suffix(f".{os.getpid()}.tmp")
    try:
        with beside.open("wb") as out, ThreadPoolExecutor(os.cpu_count()) as pool:
            for first in range(0, len(names), 256):  # in parts, because results wait in memory
                for image, size in pool.map(lambda name: _read(files, name), names[first : first + 256]):
                    places.append((offset, *image.shape[:2], *size))
                    out.write(image.tobytes())
                    offset += image.size
        os.replace(beside, path)
    except BaseException as error:  # including interrupts: the incomplete file may have gigabytes
        beside.unlink(missing_ok=True)
        if not isinstance(error, OSError) or error.errno is None:  # an error of an image, which it names
            raise
        raise OutputError(
            f"{path}: cannot write the decoded images ({error.strerror}); choose another folder"
        ) from error
    beside = index.with_suffix(f".{os.getpid()}.tmp")
    beside.write_text(json.dumps(places), encoding="utf-8")
    os.replace(beside, index)


def _read(files: ImageFiles, name: str) -> tuple[np.ndarray, tuple[int, int]]:
    """Read an image, reduced to :data:`LONGEST`, and its original (height, width)."""
    image = files.image(name)
    height, width = image.shape[:2]
    scale = LONGEST / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image), (height, width)
