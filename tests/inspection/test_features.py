"""Principal components: deterministic, upright, in place."""

import numpy as np
import torch

from vit_dense.inspection import principal_colours, to_image


def square(channels: int = 8) -> torch.Tensor:
    """(C, 6, 9): noise, and an object in columns 6 to 8 of rows 0 to 1."""
    generator = torch.Generator().manual_seed(0)
    feature_map = 0.01 * torch.randn(channels, 6, 9, generator=generator)
    feature_map[:, :2, 6:] += torch.linspace(-1, 2, channels)[:, None, None]
    return feature_map


def test_an_object_is_bright_where_it_is():
    red = principal_colours(square())[..., 0]
    assert red[:2, 6:].min() > 240
    outside = np.delete(red.reshape(-1), [6, 7, 8, 15, 16, 17])
    assert outside.max() < 15
    # the sign does not depend on that of the features
    np.testing.assert_array_equal(principal_colours(-square()), principal_colours(square()))


def test_equal_maps_have_equal_pictures_also_in_another_basis():
    feature_map = square() + torch.linspace(0, 0.5, 9)
    first = principal_colours(feature_map)
    np.testing.assert_array_equal(first, principal_colours(feature_map.clone()))
    rotation = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(3)))[0]
    rotated = torch.einsum('dc,chw->dhw', rotation, feature_map) + 7
    assert np.abs(first.astype(int) - principal_colours(rotated)).max() <= 1


def test_components_are_those_of_the_covariance():
    feature_map = torch.randn(5, 7, 4, generator=torch.Generator().manual_seed(1))
    cells = feature_map.flatten(1).T
    cells = cells - cells.mean(0)
    _, _, directions = torch.linalg.svd(cells)
    colours = principal_colours(feature_map).reshape(-1, 3).astype(float)
    for index in range(3):
        expected = (cells @ directions[index]).numpy()
        inner = (colours[:, index] > 0) & (colours[:, index] < 255)
        assert abs(np.corrcoef(expected[inner], colours[inner, index])[0, 1]) > 0.9999


def test_missing_components_are_grey():
    flat = torch.ones(4, 3, 3)
    assert (principal_colours(flat) == 128).all()
    one_channel = principal_colours(square()[:1])
    assert (one_channel[..., 1:] == 128).all()
    assert one_channel[0, 8, 0] > 240


def test_cells_cover_their_pixels():
    """Patches of 14 over 21x28 pixels of input, shown at twice the size: the last row is cut."""
    cells = np.array([[1, 2], [3, 4]], np.uint8)
    picture = to_image(cells, 14, (21, 28), (42, 56))
    expected = np.repeat(np.repeat(cells, 28, axis=0), 28, axis=1)[:42]
    np.testing.assert_array_equal(picture, expected)
    ramp = np.arange(4, dtype=np.float32)[None].repeat(2, axis=0)
    smooth = to_image(ramp, 8, (16, 32), (16, 32), smooth=True)
    np.testing.assert_allclose(smooth[0, 4:28], (np.arange(4, 28) + 0.5) / 8 - 0.5, atol=0.02)
