"""`window_size` as a sequence: an edge for each block."""

import pytest
import torch

from vit_dense.backbones import TimmViT
from vit_dense.released import ReleasedTimmViT


def run(vit: TimmViT, image: torch.Tensor) -> torch.Tensor:
    tokens, context = vit.embed(image)
    return vit.run_blocks(tokens, context, 0, vit.depth)


def test_the_same_as_one_edge_and_global_blocks() -> None:
    torch.manual_seed(0)
    image = torch.randn(1, 3, 80, 112)
    vits = [
        TimmViT('test_vit', window_size=3, global_blocks=(1, 4)).eval(),
        TimmViT('test_vit', window_size=[3, None, 3, 3, None, 3]).eval(),
        TimmViT('test_vit', window_size=[3, None, 2, 3, None, 3]).eval(),
    ]
    for vit in vits:
        vit.load_state_dict(vits[0].state_dict())
    assert vits[1].global_blocks == (1, 4)
    with torch.no_grad():
        one, each, other = (run(vit, image) for vit in vits)
    assert torch.equal(one, each)
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'window_size': [3, 3]}, r'an edge for each of the 6 blocks'),
        ({'window_size': [3] * 6, 'global_blocks': [1]}, r'needs no global_blocks'),
        ({'window_size': [3] * 5 + [0]}, r'give tokens >= 1'),
        ({'window_size': 3.0}, r'window_size=3\.0: give tokens >= 1'),
        ({'window_size': '3'}, r"window_size='3': give tokens >= 1"),
        ({'window_size': True}, r'window_size=True: give tokens >= 1'),
        ({'window_size': 3, 'global_blocks': 2}, r'global_blocks=2: give a list'),
        ({'frozen_stages': None}, r'frozen_stages=None: give a whole number'),
        ({'drop_path_rate': '0.1'}, r"drop_path_rate='0\.1': give a share"),
        ({'checkpoint': 3}, r'checkpoint=3: give the path'),
    ],
)
def test_mistakes_are_told(options, message) -> None:
    with pytest.raises(ValueError, match=message):
        TimmViT('test_vit', **options)


BEIT = {'embed_dim': 32, 'depth': 4, 'num_heads': 2, 'img_size': 64}


@pytest.mark.parametrize(
    ('edges', 'kwargs', 'message'),
    [
        (14, BEIT, r'windows in every block; give a sequence'),
        ([14, None, 14, 14], BEIT, r'windows in every block; give a sequence'),
        ([14, 14], BEIT, r'one for each of the 4 blocks'),
        ([14] * 4, {**BEIT, 'use_rel_pos_bias': False}, r'a table of relative positions in each'),
    ],
)
def test_the_detectors_beit_needs_all_its_windows(edges, kwargs, message) -> None:
    with pytest.raises(ValueError, match=message):
        ReleasedTimmViT('beit_base_patch16_224', window_size=edges, model_kwargs=kwargs)


def test_the_detectors_beit_trains_in_all_its_parts() -> None:
    vit = ReleasedTimmViT('beit_base_patch16_224', window_size=[2, 3, 2, 5], model_kwargs=BEIT)
    run(vit.train(), torch.randn(1, 3, 64, 96)).square().mean().backward()
    missing = [name for name, p in vit.named_parameters() if p.grad is None]
    assert not missing
    tables = [b.attn.relative_position_bias_table for b in vit.model.blocks]
    assert [len(t) for t in tables] == [9, 25, 9, 81]
    assert vit.num_prefix_tokens == 0
