"""Test-time augmentation: one image seen mirrored and at several scales, and what was seen averaged."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from ..geometry import Fit, from_cells, to_cells
from ..heads.decode import Output
from ..heads.outputs import Found, Maps
from ..skeleton import Head


def unmirror(result: Output, head: Head, width: int) -> Maps | Found:
    """What was found in a mirrored input, as it would be in the input itself; left and right change places.

    Args:
        result: of one image.
        head: what it means.
        width: of the network's input, in pixels.
    """
    order = list(head.skeleton.flip_order)
    if isinstance(result, Found):
        xy = result.xy[:, order] * np.array([-1, 1], np.float32) + np.array([width - 1, 0], np.float32)
        return Found(xy, result.score[:, order], result.person_score)
    assert isinstance(result, Maps)
    heatmaps = result.heatmaps[order, :, ::-1]
    limbs = np.array(head.limb_flip_order, int)
    fields = result.fields.reshape(-1, 2, *result.fields.shape[1:])[limbs, :, :, ::-1]
    sign = np.array(head.limb_flip_sign, np.float32).reshape(-1, 1, 1, 1)
    fields = fields * sign * np.array([-1, 1], np.float32)[:, None, None]  # what pointed left points right
    return Maps.from_arrays(np.ascontiguousarray(heatmaps), fields.reshape(result.fields.shape))


def average(results: Sequence[tuple[Output, Fit]], head: Head) -> Maps | Found:
    """Average over views of one image, on the grid of the first.

    Args:
        results: of every view, with the fit of its input.
        head: what they mean.

    Raises:
        ValueError: networks that find boxes cannot be averaged: views may find different boxes.
    """
    first, fit = results[0]
    if isinstance(first, Found):
        found = [(result, back) for result, back in results if isinstance(result, Found)]
        if any(len(result.person_score) != 1 for result, _ in found):
            raise ValueError("flip and scales need a network with heatmaps or of one person")
        places = np.stack([fit.to_input(back.to_image(result.xy)) for result, back in found])
        weight = np.stack([result.score for result, _ in found])[..., None] + 1e-6  # the surer view counts more
        xy = (places * weight).sum(0) / weight.sum(0)
        score = np.mean([result.score for result, _ in found], 0)
        return Found(xy.astype(np.float32), score, np.mean([result.person_score for result, _ in found], 0))
    assert isinstance(first, Maps)
    shape = first.heatmaps.shape[1:]
    heatmaps, fields = np.zeros_like(first.heatmaps), np.zeros_like(first.fields)
    for result, back in results:
        assert isinstance(result, Maps)
        heatmaps += _resample(result.heatmaps, back, fit, shape, head.stride)
        fields += _resample(result.fields, back, fit, shape, head.stride)
    heatmaps, fields = heatmaps / len(results), fields / len(results)
    return Maps.from_arrays(heatmaps, fields, min(first.peak_score.shape[1], shape[0] * shape[1]))


def _resample(maps: np.ndarray, source: Fit, target: Fit, shape: tuple[int, int], stride: int) -> np.ndarray:
    """(C, h, w) of one input -> (C, *shape) on the grid of another input of the same image, cubic."""
    if source == target and maps.shape[1:] == shape:
        return maps
    # Both ways are scalings and shifts: two points of the target grid tell where they lie in the source.
    ends = np.array([[0.0, 0.0], [1.0, 1.0]])
    there = to_cells(source.to_input(target.to_image(from_cells(ends, stride))), stride)
    scale, shift = there[1] - there[0], there[0]
    matrix = np.array([[scale[0], 0, shift[0]], [0, scale[1], shift[1]]])
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    size = shape[1], shape[0]
    out = [cv2.warpAffine(m, matrix, size, flags=flags, borderMode=cv2.BORDER_REPLICATE) for m in maps]
    return np.stack(out) if out else np.empty((0, *shape), np.float32)
