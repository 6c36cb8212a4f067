"""Fills gaps of tracks, and removes their jitter with a Butterworth low pass."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ..arrays import Bool, Float
from ..errors import ConfigError, MissingExtraError

ORDER = 2  # of one pass; forwards and backwards it is 4
SHORTEST = 16  # least frames of a piece that is filtered: the filter extends its ends
PAUSE = 0.5  # seconds between two frames that split a piece, for example after frames of a camera were dropped
IRREGULAR = 0.1  # of a step: largest difference of a regular step from the median


def fill_gaps(
    xy: Float[np.ndarray, "t k 2"], times: Float[np.ndarray, " t"], longest: float
) -> tuple[Float[np.ndarray, "t k 2"], Bool[np.ndarray, "t k"]]:
    """Fill gaps by straight lines between the values before and after them.

    Args:
        xy: (T, K, 2), NaN where not found.
        times: (T,) seconds, rising.
        longest: longest gap in seconds, from the value before it to the one after it; longer gaps stay.

    Returns:
        (T, K, 2) joints, and (T, K) bool: which were filled.
    """
    xy, filled = xy.copy(), np.zeros(xy.shape[:2], bool)
    for k in range(xy.shape[1]):
        found = np.flatnonzero(np.isfinite(xy[:, k]).all(1))
        for a, b in itertools.pairwise(found):
            if b - a == 1 or times[b] - times[a] > longest + 1e-9:
                continue
            gap = np.arange(a + 1, b)
            share = ((times[gap] - times[a]) / (times[b] - times[a]))[:, None]
            xy[gap, k] = xy[a, k] + share * (xy[b, k] - xy[a, k])
            filled[gap, k] = True
    return xy, filled


def is_regular(times: Float[np.ndarray, " t"]) -> bool:
    """Whether all time steps are about equal."""
    steps = np.diff(times)
    return len(steps) == 0 or bool(np.abs(steps - np.median(steps)).max() <= IRREGULAR * np.median(steps))


def import_scipy() -> tuple[Any, Any]:
    """scipy's ``butter`` and ``sosfiltfilt``.

    Raises:
        MissingExtraError: scipy is not installed.
    """
    try:
        from scipy.signal import butter, sosfiltfilt  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("the low-pass filter needs scipy: pip install 'lithepose[motion]'") from error
    return butter, sosfiltfilt


def low_pass(
    xy: Float[np.ndarray, "t k 2"], times: Float[np.ndarray, " t"], cutoff: float
) -> Float[np.ndarray, "t k 2"]:
    """Remove changes that are faster than a frequency, without delay.

    A second-order Butterworth filter runs forwards and backwards (fourth order in total, zero phase). Its own cut-off
    is set so that both passes together halve the power at ``cutoff``. If times are irregular, a piece is resampled to
    even steps by linear interpolation, filtered, and interpolated at its own times.

    Args:
        xy: (T, K, 2), NaN where not found.
        times: (T,) seconds, rising.
        cutoff: cut-off in Hz.

    Returns:
        (T, K, 2); pieces of fewer than :data:`SHORTEST` frames without a gap become NaN.

    Raises:
        ConfigError: the cut-off is not below half the frame rate.
        MissingExtraError: scipy is not installed.
    """
    butter, sosfiltfilt = import_scipy()
    smooth = np.full(xy.shape, np.nan)
    if len(times) < SHORTEST:
        return smooth
    step = float(np.median(np.diff(times)))
    # Both passes together halve the power; the bilinear transform warps frequencies by the tangent.
    single = np.arctan(np.tan(np.pi * cutoff * step) / (np.sqrt(2) - 1) ** (1 / (2 * ORDER))) / np.pi
    if not 0 < cutoff * step < 0.5 or not 0 < single < 0.5:
        raise ConfigError(
            f"low pass at {cutoff:g} Hz: must be above 0 and below half of the {1 / step:.4g} frames per second"
        )
    sections = butter(ORDER, 2 * single, output="sos")
    for k in range(xy.shape[1]):
        for piece in _pieces(np.isfinite(xy[:, k, 0]), times):
            if len(piece) < SHORTEST:
                continue
            own, values = times[piece], xy[piece, k]
            if is_regular(own):
                smooth[piece, k] = sosfiltfilt(sections, values, axis=0)
                continue
            even = np.linspace(own[0], own[-1], max(SHORTEST, round((own[-1] - own[0]) / step) + 1))
            for axis in range(values.shape[1]):
                done = sosfiltfilt(sections, np.interp(even, own, values[:, axis]))
                smooth[piece, k, axis] = np.interp(own, even, done)
    return smooth


def _pieces(found: np.ndarray, times: np.ndarray) -> list[np.ndarray]:
    """Indices of the stretches without a gap or pause."""
    there = np.flatnonzero(found)
    pause = max(PAUSE, 3 * float(np.median(np.diff(times))))  # a time lapse has long steps
    breaks = (np.diff(there) > 1) | (np.diff(times[there]) > pause)
    return [piece for piece in np.split(there, np.flatnonzero(breaks) + 1) if len(piece)]
