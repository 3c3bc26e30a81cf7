"""Adapters without some maps: the same other maps, no parameters for those, and all files load."""

from typing import Any

import pytest
import torch
from mmengine.registry import MODELS

import vit_dense  # noqa: F401 - registers
from vit_dense.engine.checkpoint_check import fit_checkpoint

MAP_PARTS = ('norm1.', 'up.', 'spm.fc1.')


def build(adapter: str, **options: Any) -> torch.nn.Module:
    vit = {'type': 'TimmViT', 'model_name': 'test_vit'}
    return MODELS.build(
        {'type': adapter, 'vit': vit, 'deform_num_heads': 4, 'conv_inplane': 8, **options}
    ).eval()


@pytest.mark.parametrize('adapter', ['ViTAdapter', 'ViTCoMer'])
@pytest.mark.parametrize('source', ['stages', 'last', 'none'])
def test_other_maps_stay_as_they_are(adapter: str, source: str) -> None:
    """With the weights of an adapter that has all, also where a strict test is made before."""
    whole = build(adapter, vit_feature_source=source)
    part = build(adapter, vit_feature_source=source, out_indices=[1, 3])
    state = whole.state_dict()
    left_out = state.keys() - part.state_dict().keys()
    assert {name for name in left_out if not name.startswith(('norm3.', *MAP_PARTS))} == set()
    assert len(left_out) == 2 * 5 + 2 + 2
    fit_checkpoint({'state_dict': dict(state)}, part)
    part.load_state_dict(state)
    image = torch.randn(1, 3, 70, 96)
    with torch.no_grad():
        maps, expected = part(image), whole(image)
    assert len(maps) == len(part.out_channels) == 2
    assert torch.equal(maps[0], expected[1])
    assert torch.equal(maps[1], expected[3])


def test_other_leftovers_are_not_dropped() -> None:
    whole, part = build('ViTAdapter'), build('ViTAdapter', out_indices=[1, 2, 3])
    with pytest.raises(RuntimeError, match='Missing key'):
        whole.load_state_dict(part.state_dict())
    with pytest.raises(RuntimeError, match=r'Unexpected key.*norm9\.weight'):
        part.load_state_dict({**whole.state_dict(), 'norm9.weight': torch.zeros(1)})


@pytest.mark.parametrize('indices', [[], [3, 1], [1, 1], [4]])
def test_wrong_numbers_of_maps(indices: list[int]) -> None:
    with pytest.raises(ValueError, match=r'out_indices=.*rising order, 0 to 3'):
        build('ViTAdapter', out_indices=indices)
