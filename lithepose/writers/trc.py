"""Results of videos -> TRC files of marker positions, as OpenSim reads them."""

from __future__ import annotations

import glob
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..poses import Poses
from .folders import folder_for
from .overwrite import named, numbered, stem

if TYPE_CHECKING:
    from .results import Place

Row = tuple[int, float, np.ndarray]  # frame, seconds, (K, 2) pixels with y upwards


class TrcFolder:
    """Writes ``NAME_person1.trc`` for every person with an id in every video, at the end.

    Markers lie in the image plane: X is to the right and Y upwards from the lower left corner, in pixels, Z is 0. A
    joint that was not found is left empty. Frames without the person are left out, and the others keep their numbers.
    Images, and people without an id, are not written.

    Args:
        path: path of the folder.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = folder_for(path, "trc")
        self._joints: tuple[str, ...] = ()
        self._sources = dict[str, None]()
        self._rows: dict[tuple[str, int], list[Row]] = {}

    def write(self, frame: Place, poses: Poses) -> None:
        """Keep the result of one frame."""
        self._joints = poses.joints
        if frame.index is None or poses.id is None:
            return
        self._sources[frame.source] = None
        upwards = np.array([0, poses.size[1] - 1]) + np.array([1, -1]) * poses.xy
        for number, xy in zip(poses.id.tolist(), upwards, strict=True):
            if number >= 0:
                self._rows.setdefault((frame.source, number), []).append((frame.index, frame.time or 0.0, xy))

    def close(self) -> None:
        """Write the files."""
        names, used = dict[str, str](), set[str]()
        for source in self._sources:
            names[source] = next(name for name in numbered(stem(source)) if name.casefold() not in used)
            used.add(names[source].casefold())
        for name in names.values():  # of an earlier call on a video of this name, which may have had more people
            for old in self.path.glob(f"{glob.escape(name)}_person*.trc"):
                if old.stem.rpartition("_person")[2].isdecimal():
                    old.unlink()
        for (source, number), rows in self._rows.items():
            path = self.path / f"{names[source]}_person{number}.trc"
            with named(path):
                path.write_text(trc_text(path.name, self._joints, rows), encoding="utf-8")

    def abandon(self) -> None:
        """Leave the files of an earlier call as they are."""


def trc_text(name: str, joints: tuple[str, ...], rows: list[Row]) -> str:
    """The text of a TRC file.

    Args:
        name: name of the file.
        joints: names of the markers.
        rows: rows of one person, in the order of time.
    """
    span = rows[-1][1] - rows[0][1]
    rate = f"{(rows[-1][0] - rows[0][0]) / span:.4f}" if span > 0 else "30"
    heads = ("DataRate", "CameraRate", "NumFrames", "NumMarkers", "Units", "OrigDataRate", "OrigDataStartFrame")
    values = (rate, rate, len(rows), len(joints), "px", rate, rows[0][0] + 1, len(rows))
    axes = "\t".join(f"X{k}\tY{k}\tZ{k}" for k in range(1, len(joints) + 1))
    lines = [
        f"PathFileType\t4\t(X/Y/Z)\t{name}",
        "\t".join((*heads, "OrigNumFrames")),
        "\t".join(map(str, values)),
        "Frame#\tTime\t" + "\t\t\t".join(joints) + "\t\t",
        "\t\t" + axes,
        "",
    ]
    for frame, time, xy in rows:
        cells = ["\t\t" if np.isnan(x) else f"{x:.3f}\t{y:.3f}\t0.000" for x, y in xy.tolist()]
        lines.append(f"{frame + 1}\t{time:.4f}\t" + "\t".join(cells))
    return "\n".join(lines) + "\n"
