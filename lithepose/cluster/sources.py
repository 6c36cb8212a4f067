"""The sources of a call -> work, in a fixed order, without a list of everything in memory."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from ..errors import ConfigError, MissingFileError
from ..media.inputs import ADDRESS, IMAGES, VIDEOS, expand
from .storage import open_fs
from .work import Work

TARS = (".tar", ".tar.gz", ".tgz")
LISTS = (".txt", ".list")
STREAMS = ("rtsp", "rtmp", "udp")


def works(sources: Sequence[str], block: int) -> Iterator[Work]:
    """Blocks of single images, shards and videos.

    Args:
        sources: folders, patterns, images, videos, tar and Parquet files, text lists of these; paths or addresses.
        block: number of images of a block.

    Raises:
        ConfigError: no source, a camera or a stream.
        MissingFileError: a path that does not exist; one in a list fails when it is read.
    """
    if not sources:
        raise ConfigError("no input: pass images, videos, folders, tar or parquet files, or a .txt list of them")
    number, images = 0, list[str]()
    for source in sources:
        for kind, item in _items(source):
            if kind != "images":
                yield Work(number, kind, (item,))
                number += 1
                continue
            images.append(item)
            if len(images) == block:
                yield Work(number, kind, tuple(images))
                number, images = number + 1, []
    if images:
        yield Work(number, "images", tuple(images))


def kind_of(source: str) -> str:
    """images, video, tar, parquet or list, by the suffix."""
    name = (urlsplit(source).path if ADDRESS.match(source) else source).lower()
    suffix = Path(name).suffix
    if name.endswith(TARS):
        return "tar"
    kinds = {".parquet": "parquet", **dict.fromkeys(VIDEOS, "video"), **dict.fromkeys(LISTS, "list")}
    return kinds.get(suffix, "images")


def _items(source: str) -> Iterator[tuple[str, str]]:
    """(kind, path or address) of everything that a source stands for."""
    if ADDRESS.match(source):
        found = _of_address(source)
    elif os.path.isdir(source):
        found = _of_paths(source, sorted(os.path.join(source, name) for name in os.listdir(source)))
    elif os.path.exists(source):
        found = [source] if os.path.isfile(source) else None
    elif glob.has_magic(source):
        found = _of_paths(source, sorted(glob.iglob(source, recursive=True)))
    else:
        found = None
    if found is None:
        if source.isdecimal() or os.path.exists(source):
            raise ConfigError(f"{source}: cameras and devices are not supported on a cluster; use `lithepose predict`")
        raise MissingFileError(
            f"{source}: no such file or folder; pass images, videos, tar or parquet files, or a list"
        )
    for item in found:
        if kind_of(item) == "list":
            yield from _of_list(item)
        else:
            yield kind_of(item), item


def _of_paths(source: str, paths: list[str]) -> list[str]:
    """Images and videos as ``predict`` finds them, and the shards beside them."""
    shards = [path for path in paths if kind_of(path) in ("tar", "parquet") and os.path.isfile(path)]
    known = set(shards)
    try:
        return [item.source for item in expand([source]) if item.source not in known] + shards
    except MissingFileError:
        if shards:
            return shards
        if glob.has_magic(source):
            raise MissingFileError(f"{source}: no image, video, tar or parquet file matches this pattern") from None
        raise


def _of_address(source: str) -> list[str]:
    """An address itself, or what a pattern or folder of an object store holds."""
    scheme = source.partition("://")[0].lower()
    if scheme in STREAMS:
        raise ConfigError(f"{source}: streams are not supported on a cluster; use `lithepose predict`")
    if scheme in ("http", "https"):
        return [source]
    fs, path = open_fs(source)
    if glob.has_magic(path):
        found = sorted(fs.glob(path))
    elif source.endswith("/") or (not Path(path).suffix and fs.isdir(path)):
        found = sorted(fs.find(path))
    else:
        return [source]
    known = [
        item for item in found if kind_of(item) in ("tar", "parquet", "video") or Path(item).suffix.lower() in IMAGES
    ]
    if not known:
        raise MissingFileError(f"{source}: contains no images, videos, tar or parquet files")
    return [fs.unstrip_protocol(item) for item in known]


def _of_list(source: str) -> Iterator[tuple[str, str]]:
    """The lines of a text file, one path or address each; empty lines and lines that begin with # are left out."""
    import fsspec

    try:
        with fsspec.open(source, "rt", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                item = line.strip()
                if item and not item.startswith("#"):
                    kind = kind_of(item)
                    if kind == "list":
                        raise ConfigError(f"{source}: {item} is a list inside a list; pass it in the call instead")
                    yield kind, item
    except FileNotFoundError as error:
        raise MissingFileError(f"{source}: no such list") from error
