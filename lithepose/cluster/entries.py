"""A block or shard -> frames, one input after another; inputs that cannot be read are given as failed."""

from __future__ import annotations

import gzip
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2

from ..errors import DatasetError, ImageError, OutputError
from ..media.image import looks_like_image
from ..media.inputs import ADDRESS, IMAGES, Input, distinct, shown
from ..media.sources import Failed, Frame, frames, frames_of
from .storage import open_fs
from .work import Care, Work

TRIES, PAUSE = 3, 0.5  # attempts to read an address; seconds before the second one
ROWS = 32  # of a Parquet source that are in memory at once
Opened = Callable[[], Iterator[Frame | Failed]]
DAMAGED = (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile, DatasetError, FileNotFoundError, PermissionError)
UNREADABLE = (OSError, ValueError, MemoryError, cv2.error)


def frames_of_work(work: Work, column: str, care: Care, mark: Callable[[int], None]) -> Iterator[Frame | Failed]:
    """The frames of all inputs in a block or shard.

    Args:
        work: block or shard to read.
        column: column of Parquet sources.
        care: inputs that are left out, and whether ``mark`` is called.
        mark: called with the index of an input before it is decoded.
    """
    leave, damaged = dict(care.leave), DAMAGED
    if work.kind == "parquet":
        import pyarrow

        damaged = (*DAMAGED, pyarrow.ArrowInvalid)
    inputs = {"images": _images, "tar": _tar, "parquet": lambda work: _parquet(work, column)}[work.kind](work)
    try:
        for place, (name, opened) in enumerate(inputs):
            if place in leave:
                yield Failed(name, ImageError(leave[place]))
                continue
            if care.mark:
                mark(place)
            try:
                yield from opened()
            except UNREADABLE as error:
                yield Failed(name, error)
    except OutputError:
        raise
    except damaged as error:  # what came before it is done. Other errors may be temporary: the task is repeated
        text = f"{shown(work.sources[0])}: cannot be read ({error!r}); copy it again and use --retry-failed"
        yield Failed(shown(work.sources[0]), error if isinstance(error, DatasetError) else DatasetError(text))


def _images(work: Work) -> Iterator[tuple[str, Opened]]:
    for item in distinct(Input(source, "image") for source in work.sources):
        source, name = item.source, item.name
        if ADDRESS.match(source):
            yield name, lambda source=source, name=name: frames_of(fetched(source), name)
        else:
            yield name, lambda source=source: frames([Input(source, "image")])


def fetched(address: str) -> bytes:
    """The bytes of a file at an address; temporary failures are tried again.

    Raises:
        ImageError: it cannot be read.
    """
    fs, path = open_fs(address)
    return _tried(address, lambda: fs.cat_file(path))


def fetch_file(address: str, to: str) -> None:
    """Copy a file at an address to this machine, as :func:`fetched` reads it."""
    fs, path = open_fs(address)
    _tried(address, lambda: fs.get_file(path, to))


def _tried(address: str, read: Callable[[], Any]) -> Any:
    for number in range(TRIES):
        try:
            return read()
        except (FileNotFoundError, PermissionError, IsADirectoryError) as error:
            raise ImageError(f"{shown(address)}: cannot be read ({error.strerror or type(error).__name__})") from error
        except Exception as error:  # each file system has its own errors
            if number == TRIES - 1:
                raise ImageError(f"{shown(address)}: cannot be read after {TRIES} attempts ({error!r})") from error
            time.sleep(PAUSE * 4**number)
    raise AssertionError("returned or raised")


def _tar(work: Work) -> Iterator[tuple[str, Opened]]:
    """The images of a tar file, in its order, read as a stream; other files are left out."""
    source = work.sources[0]
    fs, path = open_fs(source)
    with fs.open(path, "rb") as file, tarfile.open(fileobj=file, mode="r|*") as tar:
        for member in tar:
            if not member.isfile() or Path(member.name).name.startswith("."):
                continue
            extracted = tar.extractfile(member)
            suffix = Path(member.name).suffix.lower()
            if extracted is None or (suffix and suffix not in IMAGES):
                continue
            data, name = extracted.read(), f"{shown(source)}/{member.name}"
            if suffix or looks_like_image(data[:32]):
                yield name, lambda data=data, name=name: frames_of(data, name)


def _parquet(work: Work, column: str) -> Iterator[tuple[str, Opened]]:
    """The images of a Parquet file: encoded bytes, or structs with ``bytes`` as Hugging Face writes them."""
    import pyarrow.parquet

    source = work.sources[0]
    fs, path = open_fs(source)
    with fs.open(path, "rb") as file, pyarrow.parquet.ParquetFile(file) as table:
        column = column or _bytes_column(table.schema_arrow, shown(source))
        row = 0
        for batch in table.iter_batches(batch_size=ROWS, columns=[column]):
            for value in batch.column(0).to_pylist():
                data, name = value.get("bytes") if isinstance(value, dict) else value, f"{shown(source)}/{row}"
                row += 1
                yield name, lambda data=data, name=name: _row(data, name)


def _row(data: Any, name: str) -> Iterator[Frame]:
    if not isinstance(data, bytes):
        raise ImageError(f"{name}: expected the bytes of an image, found {type(data).__name__}")
    return frames_of(data, name)


def _bytes_column(schema: Any, name: str) -> str:
    import pyarrow.types as types

    for field in schema:
        kind = field.type
        if types.is_struct(kind) and kind.get_field_index("bytes") >= 0:
            return field.name
        if types.is_binary(kind) or types.is_large_binary(kind):
            return field.name
    raise DatasetError(f"{name}: no column of bytes found ({', '.join(schema.names)}); set --column")
