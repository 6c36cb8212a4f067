"""Writes drawn frames into a folder of images and videos."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from av.error import FFmpegError

from ..errors import OutputError
from ..media.image import write_image
from ..media.sources import Frame
from .overwrite import identity, make_folder, numbered, stem
from .video import VideoWriter


class ImageSink:
    """Writes drawn frames into a folder: images under their own names, videos as ``.mp4`` (without sound).

    Files of the same name from different folders are numbered.

    Args:
        folder: folder to write to, made if needed.
        keep: sources, which are never overwritten, not even through a link. If one of them lies in ``folder``, no file
            that exists there is overwritten.
        overwrite: replace the files of earlier calls; otherwise new ones are numbered.

    Attributes:
        failures: sources with a video that could not be finished, and why.
    """

    def __init__(self, folder: str | Path, keep: Iterable[str | Path] = (), overwrite: bool = False) -> None:
        self.folder = Path(folder)
        make_folder(self.folder)
        sources = [Path(path) for path in keep]
        parents = {path.parent.resolve() for path in sources} | {path.resolve().parent for path in sources}
        self._keep_all = not overwrite or self.folder.resolve() in parents
        self._kept = {identity(path) for path in sources if path.exists()}
        self._used: set[str] = set()
        self._videos: dict[str, VideoWriter] = {}  # by source: one, or one for each of several cameras
        self.failures: dict[str, str] = {}

    def write(self, frame: Frame, drawn: np.ndarray) -> Path:
        """Write one drawn frame.

        Returns:
            the file that it was written to.

        Raises:
            OutputError: it cannot be written: the disk is full, or the image is larger than its format allows.
        """
        try:
            return self._write_image(frame, drawn) if frame.index is None else self._write_frame(frame, drawn)
        except OutputError as error:
            raise OutputError(f"{frame.source}: drawn, but {error}") from error
        except (cv2.error, FFmpegError, OSError) as error:
            raise OutputError(f"{frame.source}: drawn, but cannot be written to {self.folder} ({error})") from error

    def reserve(self, source: str, suffix: str = "") -> None:
        """Reserve the name of a file for another call, which has written it or will; by default that of an image."""
        names = (f"{name}{suffix or _suffix(source)}".casefold() for name in numbered(stem(source)))
        self._used.add(next(name for name in names if name not in self._used))

    def _write_image(self, frame: Frame, drawn: np.ndarray) -> Path:
        path = self._free(frame.source, ".png" if drawn.shape[2] == 4 else _suffix(frame.source))
        write_image(path, drawn)
        return path

    def _write_frame(self, frame: Frame, drawn: np.ndarray) -> Path:
        if drawn.shape[2] == 4:
            raise OutputError("an MP4 cannot be transparent; use the background black for videos")
        if frame.source not in self._videos or frame.index == 0:
            if not frame.live:  # the frame before was the last one of its file
                self.close()
            self._videos[frame.source] = VideoWriter(self._free(frame.source, ".mp4"), frame.rate or 30.0)
        video = self._videos[frame.source]
        video.write(drawn, frame.time)
        return video.path

    def _free(self, source: str, suffix: str) -> Path:
        for name in numbered(stem(source)):
            path = self.folder / f"{name}{suffix}"
            there = path.exists() and (self._keep_all or identity(path) in self._kept)
            # Names that differ only in case are one file on macOS and Windows.
            if path.name.casefold() not in self._used and not there and not path.is_symlink():
                self._used.add(path.name.casefold())
                return path
        raise AssertionError("numbers do not end")

    def close(self) -> None:
        """Finish the open videos. Errors are kept in ``failures``, so that nothing else is lost."""
        while self._videos:
            source, video = self._videos.popitem()
            try:
                video.close()
            except (FFmpegError, OSError) as error:
                self.failures[source] = f"{source}: {video.path} cannot be finished ({error})"


def _suffix(source: str) -> str:
    """Suffix of the drawn image: the source's, if that is .png, .webp or .bmp; else .jpg."""
    suffix = Path(source).suffix.lower()
    return suffix if suffix in (".png", ".webp", ".bmp") else ".jpg"
