"""The sources of a call -> inputs to open: images, videos, cameras and streams."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ..errors import MissingFileError
from .image import looks_like_image

IMAGES = frozenset(
    ".jpg .jpeg .jpe .png .bmp .dib .webp .tif .tiff .ppm .pgm .pbm .pnm .jp2 .avif .gif"
    " .jfif .heic .heif .apng .jxl".split()  # OpenCV may not read some of them, but they are not skipped silently
)
VIDEOS = frozenset(".mp4 .m4v .mov .mkv .webm .avi .mpg .mpeg .ts .mts .m2ts .vob .wmv .asf .flv .3gp .ogv".split())
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: C:// is a path


@dataclass(frozen=True)
class Input:
    """One input to open. ``kind`` is image, video or live; ``source`` is what the user named.

    ``number`` is above 1 if an earlier source has the same name, such as addresses that differ only in the query.
    """

    source: str
    kind: str
    number: int = 1

    @property
    def name(self) -> str:
        """The name in results and messages: without logins and queries, numbered if that is not unique."""
        return shown(self.source) + (f" ({self.number})" if self.number > 1 else "")


def distinct(inputs: Iterable[Input]) -> list[Input]:
    """The same inputs; those that would have the same name are numbered."""
    sources, found = dict[str, list[str]](), list[Input]()
    for item in inputs:
        same = sources.setdefault(shown(item.source), [])
        if item.source not in same:
            same.append(item.source)
        found.append(replace(item, number=same.index(item.source) + 1))
    return found


def expand(sources: Sequence[str]) -> list[Input]:
    """Folders and patterns -> their files, in natural order (2 before 10).

    A source that exists is a path, whatever its name. Otherwise a number is a camera, and a source with ``://`` is an
    address: an image or video by its suffix, else a live stream. A folder gives its images and videos, by suffix or,
    for images, by content. Subfolders and hidden files are left out (``folder/**`` includes subfolders). A file that is
    named directly is tried whatever its suffix.

    Raises:
        MissingFileError: a path that does not exist, or a pattern or folder without images and videos.
        OSError: a path without read permission.
    """
    found: list[Input] = []
    for source in sources:
        path = Path(source)
        try:
            exists = path.exists()
        except OSError as error:
            raise MissingFileError(f"{source}: cannot be read ({error.strerror or error})") from error
        if exists and path.is_dir():
            try:
                found += _inside(source, (str(p) for p in path.iterdir()), "folder")
            except PermissionError as error:
                raise MissingFileError(f"{source}: folder cannot be listed ({error.strerror})") from error
        elif exists:
            found.append(Input(source, "live" if path.is_char_device() else _kind(source)))
        elif re.fullmatch("[0-9]{1,3}", source):
            found.append(Input(source, "live"))
        elif ADDRESS.match(source):
            suffix = Path(urlsplit(source).path).suffix.lower()
            file = not source.lower().startswith(("rtsp", "rtmp", "udp")) and suffix in IMAGES | VIDEOS
            found.append(Input(source, _kind(urlsplit(source).path) if file else "live"))
        elif glob.has_magic(source):
            found += _inside(source, glob.iglob(source, recursive=True), "pattern")
        else:
            raise MissingFileError(f"{source}: no such file or folder; pass an image, video, folder, pattern or camera")
    return distinct(found)


def _kind(name: str) -> str:
    return "video" if Path(name).suffix.lower() in VIDEOS else "image"


def _inside(source: str, paths: Iterator[str], kind: str) -> list[Input]:
    files = [p for p in paths if _plain(p) and os.path.isfile(p) and _readable(p)]
    if not files:
        deeper = f"; use {source.rstrip('/')}/** to include its subfolders" if kind == "folder" else ""
        known = " ".join(sorted(IMAGES | VIDEOS))
        raise MissingFileError(f"{source}: {kind} has no images or videos (known suffixes: {known}){deeper}")
    return [Input(p, _kind(p)) for p in sorted(files, key=_natural)]


def _readable(path: str) -> bool:
    """Whether a file is an image or video by its suffix, or begins like an image."""
    if Path(path).suffix.lower() in IMAGES | VIDEOS:
        return True
    try:
        with open(path, "rb") as file:
            return looks_like_image(file.read(32))
    except OSError:
        return False


def skipped(source: str) -> Counter[str]:
    """Files of a folder that :func:`expand` leaves out, counted by suffix; hidden ones are not counted."""
    if not os.path.isdir(source):
        return Counter()
    files = [e for e in os.scandir(source) if e.is_file() and _plain(e.path) and not _readable(e.path)]
    return Counter(Path(e.name).suffix.lower() or "no suffix" for e in files)


def _plain(path: str) -> bool:
    """Whether a file is not hidden, unlike ``._photo.jpg``, which macOS leaves on other disks and which is no image."""
    return not os.path.basename(path).startswith(".")


def _natural(name: str) -> list[tuple[int, Any]]:
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def shown(source: str) -> str:
    """A source for display and output: addresses without logins, queries and ``password=`` parts."""
    if not ADDRESS.match(source):
        return source
    scheme, rest = source.split("://", 1)
    rest = rest.rpartition("@")[2].partition("?")[0]
    return f"{scheme}://" + "/".join("..." if "=" in part or "&" in part else part for part in rest.split("/"))
