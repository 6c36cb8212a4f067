"""What `lithepose angles` and `lithepose predict --angles` write."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ConfigError
from .console import counted, note
from .files import check_output, refuse_existing

if TYPE_CHECKING:
    from ...motion.tracks import Tracks
    from ...poses import Poses
    from ...skeleton import Skeleton
    from ...writers.results import Place, Results
    from .options import MotionOptions


def check_motion(options: MotionOptions, table: Path, overwrite: bool, skeleton: Skeleton | None) -> None:
    """Refuse what cannot be measured or written, before the work starts.

    Args:
        options: options of the call.
        table: file for the angles; the file for the distances is next to it.
        overwrite: whether files of an earlier call are replaced.
        skeleton: skeleton of the model, if known.

    Raises:
        ConfigError: an angle, distance, value or file that is not possible.
        MissingExtraError: a package for the filter or plot is not installed.
    """
    from ...motion.angles import choose, pairs
    from ...motion.plot import check_plot

    config = options.config()
    if options.plot and not options.angles:
        raise ConfigError(f"--plot {options.plot}: no angles to plot; add --angles all or --angles knee,elbow")
    if skeleton:
        choose(config.angles or "all", skeleton)
        if config.distances:
            pairs(config.distances, skeleton)
    if options.lowpass:
        from ...motion.filter import import_scipy

        import_scipy()
    for path in files(options, table):
        if path == options.plot:
            check_plot(path)
        elif path.suffix.lower() != ".csv":
            raise ConfigError(f"{path}: must be a .csv file")
        refuse_existing(path, overwrite)
        if path.parent.is_dir():
            check_output(path, "file")


def files(options: MotionOptions, table: Path) -> list[Path]:
    """The files that are written."""
    tables = [table] if options.angles else []
    tables += [table.with_name("distances.csv")] if options.distances else []
    return tables + ([options.plot] if options.plot else [])


def write_motion(tracks: Tracks, options: MotionOptions, table: Path) -> None:
    """Measure all tracks, write the tables and the plot, and report it."""
    from ...motion.plot import MOST, plot_angles
    from ...motion.table import ANGLE_COLUMNS, DISTANCE_COLUMNS, angle_rows, curves_of, distance_rows, write_table

    curves, notes = curves_of(tracks, options.config())
    for line in notes:
        note(line)
    people = counted(len(curves), "person", "people")
    if options.angles:
        rows = write_table(table, ANGLE_COLUMNS, angle_rows(curves))
        note(f"{counted(rows, 'row', 'rows')} for {people} -> {table}")
    if options.distances:
        path = table.with_name("distances.csv")
        rows = write_table(path, DISTANCE_COLUMNS, distance_rows(curves))
        note(f"{counted(rows, 'row', 'rows')} for {people} -> {path}")
    if options.plot:
        left = plot_angles(options.plot, curves)
        more = f" (only {MOST} people are plotted, {left} are omitted)" if left else ""
        note(f"angles over time -> {options.plot}{more}")


class Kept:
    """A results file that also keeps the results for :func:`write_motion`."""

    def __init__(self, file: Results, tracks: Tracks) -> None:
        self._file, self._tracks = file, tracks

    def write(self, frame: Place, poses: Poses) -> None:
        """Append the result of one frame."""
        self._file.write(frame, poses)
        self._tracks.add(frame, poses)

    def close(self) -> None:
        """Finish the file."""
        self._file.close()

    def abandon(self) -> None:
        """Stop after a failure."""
        from ...writers.results import abandon

        abandon(self._file)
