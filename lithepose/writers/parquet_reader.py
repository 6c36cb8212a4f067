"""Parquet files of :class:`lithepose.writers.parquet.ParquetFile`, and folders of them -> frames."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import DatasetError, MissingExtraError, MissingFileError
from ..poses import Poses
from ..skeleton import SKELETONS, Skeleton, mirror_pairs
from .parquet import KEY, SIZE

Place = tuple[str, int | None, float | None]  # source, frame, time
ROWS = 4096  # in memory at once


def is_parquet(path: Path) -> bool:
    """Whether a path is a Parquet file or a folder."""
    return path.suffix.lower() == ".parquet" or path.is_dir()


def parquet_frames(path: Path, skeleton: Skeleton | None = None) -> Iterator[tuple[Place, Poses]]:
    """The frames of a file, or of all files under ``poses/`` of a folder in the order of their names.

    Args:
        path: path of the file, or of the folder OUT of ``lithepose cluster``.
        skeleton: skeleton of the model; by default the one that the files name, without edges if it is not one of
            lithepose's own.

    Yields:
        (source, frame, time) and people; coordinates in pixels.

    Raises:
        MissingFileError: no such file, or a folder without results.
        MissingExtraError: pyarrow is not installed.
        DatasetError: a file of another kind.
    """
    files = [path]
    if path.is_dir():
        files = sorted((path / "poses").glob("part=*/*.parquet"))
        if not files:
            raise MissingFileError(
                f"{path}: folder without poses/part=*/*.parquet; pass the OUT folder of lithepose cluster"
            )
    elif not path.is_file():
        raise MissingFileError(f"{path}: no such file; pass the results of an earlier run")
    for file in files:
        yield from _of_file(file, skeleton)


def _of_file(path: Path, skeleton: Skeleton | None) -> Iterator[tuple[Place, Poses]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("parquet needs pyarrow: pip install 'lithepose[parquet]'") from error
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            about = json.loads((file.schema_arrow.metadata or {})[KEY])
            joints = tuple(about["joints"])
            known = skeleton or SKELETONS.get(about["skeleton"])
            known = known or Skeleton(about["skeleton"], joints, flip_pairs=mirror_pairs(joints))
            rows: list[dict[str, Any]] = []
            for batch in file.iter_batches(batch_size=ROWS):
                for row in batch.to_pylist():
                    if rows and not row["person"]:  # the first person, or none: a new frame
                        yield _place(rows[0]), _poses(rows, known)
                        rows = []
                    rows.append(row)
            if rows:
                yield _place(rows[0]), _poses(rows, known)
    except (KeyError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise DatasetError(
            f"{path}: not a Parquet file of lithepose ({error!r}); run lithepose predict again"
        ) from error


def _place(row: dict[str, Any]) -> Place:
    return row["source"], row["frame"], row["time"]


def _poses(rows: list[dict[str, Any]], skeleton: Skeleton) -> Poses:
    size = rows[0][SIZE[0]], rows[0][SIZE[1]]
    if rows[0]["person"] is None:
        return Poses.empty(skeleton, size)

    def column(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], np.float32)  # None becomes NaN

    xy = np.stack([[column(f"{joint}_{axis}") for axis in "xy"] for joint in skeleton.joints], 0).transpose(2, 0, 1)
    score = np.nan_to_num(np.stack([column(f"{joint}_score") for joint in skeleton.joints], 1))
    box = np.stack([column(f"box_{side}") for side in ("x", "y", "width", "height")], 1)
    ids = None if rows[0]["id"] is None else np.array([row["id"] for row in rows], np.int64)
    return Poses(xy, score, column("person_score"), skeleton, size, ids, box)
