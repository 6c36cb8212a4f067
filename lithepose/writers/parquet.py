"""Results -> a Parquet file, with pyarrow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError, MissingExtraError, OutputError
from ..poses import Poses
from ..skeleton import Skeleton

if TYPE_CHECKING:
    from .results import Place

GROUP = 5000  # rows per group, which are kept in memory
SIZE = ("width", "height")  # of the image, after the columns of the wide CSV
TEXT, WHOLE = ("source",), ("frame", "person", "id", *SIZE)
KEY = b"lithepose"  # of the schema's metadata: a json with the name of the skeleton and its joints


class ParquetFile:
    """One row per person, with the columns of the wide CSV and the size of the image.

    A frame without people has one row without a person. The metadata of the schema names the skeleton. The file is
    written beside its final path and moved there when it is complete.

    Args:
        path: file to write.
        skeleton: skeleton of the model.

    Raises:
        MissingExtraError: pyarrow is not installed.
        ConfigError: the path is standard output.
    """

    def __init__(self, path: str | Path, skeleton: Skeleton) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise MissingExtraError("parquet needs pyarrow: pip install 'lithepose[parquet]'") from error
        if str(path) == "-":
            raise ConfigError("parquet cannot be written to standard output; pass a file")
        self.path, self._arrow, self._parquet = Path(path), pyarrow, pyarrow.parquet
        self._columns = (*Poses.wide_columns(skeleton), *SIZE)
        kinds = {name: pyarrow.int64() for name in WHOLE} | {name: pyarrow.string() for name in TEXT}
        kinds["time"] = pyarrow.float64()  # float32 is off by milliseconds after some hours
        fields = [(name, kinds.get(name, pyarrow.float32())) for name in self._columns]
        about = json.dumps({"skeleton": skeleton.name, "joints": skeleton.joints})
        self._schema = pyarrow.schema(fields, metadata={KEY: about})
        self._rows: list[list[Any]] = []
        self._writer: Any = None
        self._beside = self.path.with_name(self.path.name + ".part")

    def write(self, frame: Place, poses: Poses) -> None:
        """Append the result of one frame."""
        rows = poses.to_wide_rows(frame.source, frame.index, frame.time)
        self._rows += [[*row, *poses.size] for row in rows]
        if len(self._rows) >= GROUP:
            self._flush()

    def _flush(self) -> None:
        try:
            if self._writer is None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                self._writer = self._parquet.ParquetWriter(self._beside, self._schema)
            columns = zip(*self._rows, strict=True) if self._rows else ((),) * len(self._columns)
            arrays = [
                self._arrow.array([None if value == "" else value for value in column], kind.type)
                for column, kind in zip(columns, self._schema, strict=True)
            ]
            self._writer.write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error}); free disk space, or choose another path"
            ) from error
        self._rows.clear()

    def close(self) -> None:
        """Finish the file."""
        if self._writer is None and not self._rows and self.path.exists():
            return  # a call without a frame leaves an earlier file as it is
        if self._rows or self._writer is None:
            self._flush()
        assert self._writer is not None
        try:
            self._writer.close()
            self._beside.replace(self.path)
        except OSError as error:
            raise OutputError(
                f"{self.path}: cannot be written ({error}); free disk space, or choose another path"
            ) from error

    def abandon(self) -> None:
        """Leave an earlier file as it is."""
        if self._writer is not None:
            self._writer.close()
            self._beside.unlink(missing_ok=True)
