"""LastLevelMaxPool: the fifth map of ViTDet."""

import pytest
import torch

from vit_dense.detection import LastLevelMaxPool


def test_last_map_subsampled() -> None:
    maps = tuple(torch.randn(2, 3, size, size + 1) for size in (16, 8, 5))
    out = LastLevelMaxPool([3, 3, 3])(maps)
    assert len(out) == 4
    assert all(a is b for a, b in zip(out, maps, strict=False))
    torch.testing.assert_close(out[3], maps[2][:, :, ::2, ::2])


def test_channels_that_heads_could_not_share() -> None:
    with pytest.raises(ValueError, match=r"\[3, 4\].*type='FPN'"):
        LastLevelMaxPool([3, 4])
    with pytest.raises(ValueError, match='must be equal'):
        LastLevelMaxPool([])
