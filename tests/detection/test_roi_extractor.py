"""SingleRoIExtractorFP32: mmdet's own in float32, and in place under mixed precision."""

from typing import Any

import pytest
import torch
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from torch import Tensor

from vit_dense.detection import SingleRoIExtractorFP32

ARGUMENTS: dict[str, Any] = {
    'roi_layer': {'type': 'RoIAlign', 'output_size': 3, 'sampling_ratio': 2},
    'out_channels': 4,
    'featmap_strides': [4, 8],
    'finest_scale': 28,
}
ROIS = torch.tensor([[0, 805.3, 11.7, 840.9, 39.1], [0, 700, 20, 800, 60.5], [0, 3, 4, 20, 30.0]])


def maps(dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    """Each cell holds its column's place in pixels, so that a shift shows in the values."""
    grids = []
    for stride in (4, 8):
        columns = (torch.arange(1024 // stride) + 0.5) * stride / 1024
        grids.append(columns.expand(1, 4, 64 // stride, -1).to(dtype).requires_grad_())
    return tuple(grids)


def test_equals_mmdets_in_float32() -> None:
    ours = SingleRoIExtractorFP32(**ARGUMENTS)(maps(), ROIS)
    torch.testing.assert_close(ours, SingleRoIExtractor(**ARGUMENTS)(maps(), ROIS), rtol=0, atol=0)


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_regions_keep_their_place(dtype: torch.dtype) -> None:
    exact = SingleRoIExtractorFP32(**ARGUMENTS)(maps(), ROIS)
    inputs = maps(dtype)
    found = SingleRoIExtractorFP32(**ARGUMENTS)(inputs, ROIS)
    assert found.dtype == torch.float32
    # What is left is the rounding of the maps' own values, all below 1.
    bound = torch.finfo(dtype).eps / 2
    assert (found - exact).abs().max() <= bound
    found.sum().backward()
    assert all(one.grad is not None and one.grad.abs().sum() > 0 for one in inputs)


def test_mmdets_own_would_move_them() -> None:
    """Should this ever fail, mmdet was mended and our class can go."""
    exact = SingleRoIExtractor(**ARGUMENTS)(maps(), ROIS)
    moved = SingleRoIExtractor(**ARGUMENTS)(maps(torch.bfloat16), ROIS).float()
    assert (moved - exact).abs().max() * 1024 > 1, 'pixels'


def test_no_regions() -> None:
    assert SingleRoIExtractorFP32(**ARGUMENTS)(maps(), ROIS[:0]).shape == (0, 4, 3, 3)
