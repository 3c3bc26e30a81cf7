"""`window_size` as a sequence: an edge for each block."""

import pytest
import torch

from vit_dense.backbones import TimmViT


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
