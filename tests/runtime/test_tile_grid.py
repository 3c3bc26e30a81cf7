"""Every pixel is covered, and weights sum to one."""

import itertools

import numpy as np
import pytest

from vit_dense.runtime.tile_grid import split_axis


@pytest.mark.parametrize(
    ('length', 'tile', 'overlap', 'align'),
    [
        *itertools.product([1, 31, 32, 33, 63, 64, 65, 100, 101, 127, 1000], [32, 64], [0, 8], [1]),
        *itertools.product([64, 65, 96, 129, 1000], [64], [16, 32], [1, 8, 16, 32]),
        (20000, 512, 128, 32),
    ],
)
def test_weights_of_all_tiles_sum_to_one(length, tile, overlap, align):
    axis = split_axis(length, tile, overlap, align=align)
    total, tiles = np.zeros(length), np.zeros(length, int)
    for index in range(len(axis)):
        first, last = axis.used(index)
        assert axis.starts[index] <= first < last <= axis.stops[index]
        weight = np.ones(last - first)
        if index:
            weight[: axis.blend] *= axis.weights()
        if index < len(axis) - 1:
            weight[len(weight) - axis.blend :] *= 1 - axis.weights()
        total[first:last] += weight
        tiles[first:last] += 1
    np.testing.assert_allclose(total, 1, atol=1e-6)
    assert tiles.max() <= 2
    assert all(start % align == 0 for start in axis.starts)
    assert axis.stops[-1] == length
    sizes = {stop - start for start, stop in zip(axis.starts, axis.stops, strict=True)}
    assert max(sizes) <= tile
    assert min(sizes) > min(tile, length) - align


def test_blended_pixels_lie_in_the_middle_of_the_overlap():
    axis = split_axis(448, 256, 64)
    assert axis.starts == (0, 192)
    assert axis.joins == (192 + 16,)
    assert axis.blend == 32
    assert axis.used(0) == (0, 240)
    assert axis.used(1) == (208, 448)


def test_last_tile_is_moved_inwards():
    assert split_axis(500, 256, 64).starts == (0, 192, 244)
    assert split_axis(500, 256, 64, align=32).starts == (0, 192, 256)
    assert split_axis(500, 256, 64, align=32).stops == (256, 448, 500)


def test_zones_are_narrower_on_request():
    assert split_axis(448, 256, 64, limit=3).blend == 3
    assert split_axis(448, 256, 64, limit=3).joins == (224 - 1,)


def test_a_short_image_is_one_tile():
    axis = split_axis(30, 64, 16)
    assert (axis.starts, axis.stops, axis.joins) == ((0,), (30,), ())


@pytest.mark.parametrize('overlap', [-1, 33])
def test_overlap_beyond_half_a_tile_is_refused(overlap):
    with pytest.raises(ValueError, match=r'tile=64, overlap=.*0\.\.32'):
        split_axis(100, 64, overlap)


def test_windows_that_leave_no_step_are_refused():
    with pytest.raises(ValueError, match='multiples of 64'):
        split_axis(200, 96, 48, align=64)
