"""Tracks -> tables of angles and distances."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..poses.tables import rounded
from ..writers.overwrite import make_folder, named
from .angles import Angle, Segment, body_length, choose, joint_values, measure, pairs
from .filter import fill_gaps, is_regular, low_pass
from .tracks import Track, Tracks

PLACE = ("source", "frame", "time", "id", "person", "name")
ANGLE_COLUMNS = (*PLACE, "degrees", "score", "filled")
DISTANCE_COLUMNS = (*PLACE, "body_lengths", "pixels", "score", "filled")


@dataclass(frozen=True)
class MotionConfig:
    """What is measured, and how the joints are filtered first.

    Attributes:
        angles: names, as in :func:`lithepose.motion.angles.choose`; empty for none.
        distances: pairs, as in :func:`lithepose.motion.angles.pairs`; empty for none.
        fill: longest gap of a joint, in seconds, that is filled by linear interpolation; 0 fills none.
        lowpass: cut-off frequency in Hz of the low-pass filter on the joints' positions; 0 for none.
    """

    angles: str = "all"
    distances: str = ""
    fill: float = 0.0
    lowpass: float = 0.0

    def __post_init__(self) -> None:
        if self.fill < 0 or self.lowpass < 0:
            raise ConfigError(f"fill {self.fill} seconds, low pass {self.lowpass} Hz: must be 0 or more")


@dataclass(eq=False)
class Curves:
    """The measurements of one track.

    Attributes:
        track: the person, with the joints as they were measured.
        filled: (T, K) bool: joints that were filled in.
        angles: definition -> (T,) degrees.
        distances: pair of joints -> (T,) pixels.
        length: length of the body in pixels; NaN if unknown.
    """

    track: Track
    filled: np.ndarray
    angles: dict[Angle, np.ndarray] = field(default_factory=dict)
    distances: dict[Segment, np.ndarray] = field(default_factory=dict)
    length: float = np.nan

    @property
    def name(self) -> str:
        """The source, and the person of a video."""
        return self.track.source if self.track.id is None else f"{self.track.source} person {self.track.id}"


def curves_of(tracks: Tracks, config: MotionConfig) -> tuple[list[Curves], list[str]]:
    """Fill, filter and measure every track.

    Args:
        tracks: tracks of all frames.
        config: what to measure.

    Returns:
        curves of every person, and notes on videos that could not be processed as requested.

    Raises:
        ConfigError: an angle or distance that the skeleton does not have, or a cut-off that the video does not allow.
    """
    if tracks.skeleton is None:
        return [], []
    chosen = choose(config.angles, tracks.skeleton) if config.angles else ()
    distances = pairs(config.distances, tracks.skeleton) if config.distances else ()
    curves, notes = list[Curves](), dict[str, None]()
    for track in tracks:
        filled = np.zeros(track.score.shape, bool)
        if track.id is not None:
            track, filled, note = _treated(track, config)
            notes |= dict.fromkeys(note)
        one = Curves(track, filled)
        one.angles = {angle: measure(angle, track.xy, track.skeleton) for angle in chosen}
        for a, b in distances:
            ends = (joint_values(track.xy, track.skeleton, joint) for joint in (b, a))
            one.distances[a, b] = np.linalg.norm(np.subtract(*ends), axis=1)
        if distances:
            one.length = body_length(track.xy, track.skeleton)
        curves.append(one)
    return curves, list(notes)


def _treated(track: Track, config: MotionConfig) -> tuple[Track, np.ndarray, list[str]]:
    """A filled and filtered track, which of its joints were filled, and notes for the user."""
    xy, filled, notes = track.xy, np.zeros(track.score.shape, bool), []
    if config.fill:
        xy, filled = fill_gaps(xy, track.times, config.fill)
    if config.lowpass:
        before = np.isfinite(xy).all(2)
        xy = low_pass(xy, track.times, config.lowpass)
        if not is_regular(track.times):
            steps = 1000 * np.diff(track.times)
            span = f"{steps.min():.0f} to {steps.max():.0f} ms"
            notes.append(f"{track.source}: frames are {span} apart; resampled to even steps for the low-pass filter")
        if lost := int((before & ~np.isfinite(xy).all(2)).sum()):
            notes.append(
                f"{track.source} person {track.id}: {lost} joint positions are omitted, because the low-pass filter"
                " needs 16 frames without a gap; use --fill to fill gaps"
            )
    return replace(track, xy=xy), filled & np.isfinite(xy).all(2), notes


def angle_rows(curves: Iterable[Curves]) -> Iterator[list[Any]]:
    """Rows under :data:`ANGLE_COLUMNS`; an angle without all of its joints has no row."""
    for one in curves:
        for angle, degrees in one.angles.items():
            yield from _rows(one, angle.name, angle.joints, [np.round(degrees, 2)])


def distance_rows(curves: Iterable[Curves]) -> Iterator[list[Any]]:
    """Rows under :data:`DISTANCE_COLUMNS`."""
    for one in curves:
        for (a, b), pixels in one.distances.items():
            yield from _rows(one, f"{a}-{b}", (a, b), [np.round(pixels / one.length, 4), np.round(pixels, 2)])


def _rows(one: Curves, name: str, joints: tuple[str, ...], values: list[np.ndarray]) -> Iterator[list[Any]]:
    track = one.track
    score = np.min([joint_values(track.score, track.skeleton, joint, least=True) for joint in joints], 0)
    filled = np.any([joint_values(one.filled, track.skeleton, joint).astype(bool) for joint in joints], 0)
    for t in np.flatnonzero(np.isfinite(values[-1])):
        frame, time = ("", "") if track.frames is None else (int(track.frames[t]), rounded(track.times[t], 4))
        person, number = "" if track.places[t] < 0 else int(track.places[t]), "" if track.id is None else track.id
        cells = ["" if np.isnan(value[t]) else float(value[t]) for value in values]
        yield [track.source, frame, time, number, person, name, *cells, rounded(score[t], 4), int(filled[t])]


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[list[Any]]) -> int:
    """Write a CSV file.

    Returns:
        number of rows.

    Raises:
        OutputError: it cannot be written.
    """
    count = 0
    make_folder(path.parent)
    with named(path), path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count
