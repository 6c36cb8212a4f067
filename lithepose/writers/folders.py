"""Results -> a folder of files, one per frame, as OpenPose writes them."""

from __future__ import annotations

import glob
import json
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..poses import Poses
from ..skeleton import Skeleton
from .overwrite import make_folder, named, numbered, stem

if TYPE_CHECKING:
    from .results import Place


def folder_for(path: str | Path, format: str) -> Path:
    """A folder for the files of a format, made if it does not exist.

    Raises:
        ConfigError: the path is that of standard output.
        OutputError: the folder cannot be made.
    """
    if str(path) == "-":
        raise ConfigError(f"{format} writes several files; pass a folder, not -")
    make_folder(Path(path))
    return Path(path)


class OpenPoseFolder:
    """Writes ``NAME_keypoints.json`` per image, ``NAME_000000000012_keypoints.json`` per video frame.

    Args:
        path: path of the folder.
        skeleton: OPENPOSE_18 or BODY_25.
    """

    def __init__(self, path: str | Path, skeleton: Skeleton) -> None:
        self.path, self.skeleton = folder_for(path, "openpose"), skeleton
        self._names: set[str] = set()
        self._videos: dict[str, str] = {}  # names of files by the source of a video

    def write(self, frame: Place, poses: Poses) -> None:
        """Write the file of one frame."""
        path = self.path / f"{self._name(frame)}_keypoints.json"
        with named(path):
            path.write_text(json.dumps(poses.to_openpose(self.skeleton, frame.name)), encoding="utf-8")

    def _name(self, frame: Place) -> str:
        """Name of a frame's file; files of an earlier run on a video of this name are removed."""
        if frame.index and frame.source in self._videos:
            return f"{self._videos[frame.source]}_{frame.index:012d}"
        own = next(name for name in numbered(stem(frame.source)) if name.casefold() not in self._names)
        self._names.add(own.casefold())
        if frame.index is None:
            return own
        self._videos[frame.source] = own
        for old in self.path.glob(f"{glob.escape(own)}_{'[0-9]' * 12}_keypoints.json"):
            old.unlink()
        return f"{own}_{frame.index:012d}"

    def close(self) -> None:
        """Do nothing: every file is complete."""
