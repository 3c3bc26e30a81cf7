"""SelectMaps: the right maps, untouched, and errors for maps that do not exist."""

import pytest
import torch

from vit_dense.detection import SelectMaps


def test_hands_on_the_named_maps_themselves() -> None:
    maps = tuple(torch.rand(1, 8, size, size) for size in (16, 8, 4, 2))
    selected = SelectMaps([8] * 4, [1, 3])(maps)
    assert len(selected) == 2
    assert selected[0] is maps[1]
    assert selected[1] is maps[3]


@pytest.mark.parametrize('indices', [[], [4], [1, -1]])
def test_maps_that_do_not_exist_are_told(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r'0 to 3 for in_channels=\[8, 8, 8, 8\]'):
        SelectMaps([8] * 4, indices)
