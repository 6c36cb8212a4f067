"""Person crops: pixels and coordinates agree, whatever the box."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lithepose.geometry import GREY, PersonCrop, apply, crop_matrix, invert, warp

SHAPE = (64, 48)


@given(
    st.tuples(st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 500), st.floats(1, 500)),
    st.tuples(st.floats(-100, 700), st.floats(-100, 700)),
)
def test_points_come_back(box, point):
    crop = PersonCrop(640, 480, crop_matrix(box, SHAPE))
    xy = np.array(point)
    assert np.allclose(crop.to_image(crop.to_input(xy)), xy, atol=1e-6)
    assert np.allclose(crop.to_input(xy), apply(crop.matrix, xy))
    assert np.allclose(apply(invert(crop.matrix), apply(crop.matrix, xy)), xy, atol=1e-6)


@given(st.tuples(st.floats(-50, 300), st.floats(-50, 300), st.floats(1, 500), st.floats(1, 500)))
def test_a_crop_shows_the_whole_box_around_its_middle(box):
    x, y, w, h = box
    matrix = crop_matrix(box, SHAPE)
    corners = apply(matrix, np.array([[x, y], [x + w, y + h]]))
    assert (corners[0] >= -0.5).all()
    assert (corners[1] <= np.array(SHAPE[::-1]) - 0.5).all()
    assert np.allclose(corners.mean(0), (np.array(SHAPE[::-1]) - 1) / 2)


@pytest.mark.parametrize("zoom", [2.0, 1.0, 0.7, 0.45, 0.3, 0.11])
def test_a_dot_in_the_image_is_in_the_crop_where_the_map_says(zoom):
    image = np.zeros((400, 500, 3), np.uint8)
    yy, xx = np.mgrid[:400, :500]
    blob = np.exp(-((xx - 233) ** 2 + (yy - 171) ** 2) / (2 * (3 / zoom) ** 2))
    image[..., 0] = (255 * blob).astype(np.uint8)
    box = 233 - 20 / zoom, 171 - 20 / zoom, 38.4 / zoom, 51.2 / zoom
    matrix = crop_matrix(box, SHAPE)
    crop = warp(image, matrix, SHAPE).astype(float)
    crop = crop[..., 0] - crop[..., 1]  # beyond the image it is grey
    crop[crop < 60] = 0
    found = np.array([(crop.sum(0) * np.arange(48)).sum(), (crop.sum(1) * np.arange(64)).sum()]) / crop.sum()
    assert np.abs(found - apply(matrix, np.array([233, 171]))).max() < 0.3


def test_beyond_the_image_it_is_grey():
    image = np.zeros((10, 10, 3), np.uint8)
    assert (warp(image, crop_matrix((100, 100, 20, 20), SHAPE), SHAPE) == GREY).all()
    assert (warp(image, crop_matrix((-9000, 0, 4000, 4000), SHAPE), SHAPE) == GREY).all()
    corner = warp(image, crop_matrix((5, 5, 10, 10), SHAPE), SHAPE)
    assert corner[0, 0].tolist() == [0, 0, 0]
    assert corner[-1, -1].tolist() == [GREY] * 3


@pytest.mark.parametrize("shape", [(1, 1), (1, 900), (3000, 2), (7, 5)])
def test_odd_images_and_boxes(shape):
    image = np.full((*shape, 3), 9, np.uint8)
    for box in ((0, 0, 1, 1), (0, 0, shape[1], shape[0]), (0.2, 0.2, 0.01, 0.01), (-5, -5, 2000, 3000)):
        assert warp(image, crop_matrix(box, SHAPE), SHAPE).shape == (*SHAPE, 3)
