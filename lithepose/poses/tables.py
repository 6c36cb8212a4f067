"""Poses as tables: rows of CSV files, data frames, arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import MissingExtraError
from ..skeleton import Skeleton

if TYPE_CHECKING:
    import pandas  # pyright: ignore[reportMissingImports]
    import polars  # pyright: ignore[reportMissingImports]

CSV_COLUMNS = ("source", "frame", "time", "person", "person_score", "joint", "x", "y", "score", "id")
WIDE_COLUMNS = (*CSV_COLUMNS[:4], "id", "person_score", "box_x", "box_y", "box_width", "box_height")


class AsTables:
    """The tables that :class:`~lithepose.poses.Poses` give."""

    if TYPE_CHECKING:
        xy: np.ndarray
        score: np.ndarray
        person_score: np.ndarray
        skeleton: Skeleton
        id: np.ndarray | None

        @property
        def joints(self) -> tuple[str, ...]: ...

        @property
        def found(self) -> np.ndarray: ...

        @property
        def boxes(self) -> np.ndarray: ...

        def __len__(self) -> int: ...

    def to_numpy(self) -> np.ndarray:
        """(N, K, 3) float32: x, y and score, NaN and 0 where not found."""
        return np.concatenate([self.xy, self.score[..., None]], 2).astype(np.float32)

    def to_pandas(self, wide: bool = False) -> pandas.DataFrame:
        """A table of the people.

        Args:
            wide: one row per person, with columns like ``nose_x``; by default one row per person and found joint.

        Raises:
            MissingExtraError: pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError("to_pandas needs pandas: pip install pandas") from error
        return pandas.DataFrame(self._table(wide))

    def to_polars(self, wide: bool = False) -> polars.DataFrame:
        """Like :meth:`to_pandas`, for polars.

        Raises:
            MissingExtraError: polars is not installed.
        """
        try:
            import polars  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise MissingExtraError("to_polars needs polars: pip install polars") from error
        return polars.DataFrame(self._table(wide))

    def _table(self, wide: bool) -> dict[str, Any]:
        """Columns of the people of one image."""
        if not wide:
            rows = [row[3:] for row in self.to_rows("")]
            columns = zip(*rows, strict=True) if rows else ((),) * len(CSV_COLUMNS[3:])
            named = {name: list(column) for name, column in zip(CSV_COLUMNS[3:], columns, strict=True)}
            return named if self.id is not None else {n: c for n, c in named.items() if n != "id"}
        ids = {} if self.id is None else {"id": self.id}
        values = self.to_numpy().reshape(len(self), -1)
        named = [f"{joint}_{value}" for joint in self.joints for value in ("x", "y", "score")]
        return ids | {"person_score": self.person_score} | {name: values[:, i] for i, name in enumerate(named)}

    @staticmethod
    def frame_row(source: str, frame: int | None, time: float | None, length: int) -> list[Any]:
        """The row of a frame, empty after source, frame and time."""
        start = [source, "" if frame is None else frame, "" if time is None else round(time, 4)]
        return start + [""] * (length - len(start))

    @staticmethod
    def wide_columns(skeleton: Skeleton) -> tuple[str, ...]:
        """Columns of :meth:`to_wide_rows`."""
        joints = (f"{joint}_{value}" for joint in skeleton.joints for value in ("x", "y", "score"))
        return (*WIDE_COLUMNS, *joints)

    def to_wide_rows(self, source: str, frame: int | None = None, time: float | None = None) -> list[list[Any]]:
        """Rows under :meth:`wide_columns`, one per person; if there is none, one row without a person."""
        start = self.frame_row(source, frame, time, len(CSV_COLUMNS[:3]))
        if not len(self):
            return [self.frame_row(source, frame, time, len(self.wide_columns(self.skeleton)))]
        rows = []
        for p, (box, values) in enumerate(zip(self.boxes.tolist(), self.to_numpy(), strict=True)):
            person = [p, "" if self.id is None else int(self.id[p]), rounded(self.person_score[p], 4)]
            cells = [("", "", "") if s == 0 else (rounded(x), rounded(y), rounded(s, 4)) for x, y, s in values]
            rows.append([*start, *person, *map(rounded, box), *(value for cell in cells for value in cell)])
        return rows

    def to_rows(self, source: str, frame: int | None = None, time: float | None = None) -> list[list[Any]]:
        """Rows under :data:`CSV_COLUMNS`, one per person and found joint."""
        start = self.frame_row(source, frame, time, 3)
        return [
            [
                *start,
                p,
                rounded(self.person_score[p], 4),
                self.joints[k],
                *map(rounded, self.xy[p, k]),
                rounded(self.score[p, k], 4),
                "" if self.id is None else int(self.id[p]),
            ]
            for p, k in np.argwhere(self.found)
        ]


def rounded(value: Any, digits: int = 2) -> float:
    """A plain number with ``digits`` decimal places."""
    return round(float(value), digits)
