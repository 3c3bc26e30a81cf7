"""The released variants that extract once."""

import pytest
import torch

from vit_dense.released import LightViTAdapter


@pytest.mark.parametrize(
    'options',
    [
        {},
        {'interaction_indexes': [(0, 5)], 'cffn_ratio': 0.0, 'vit_feature_source': 'none'},
    ],
)
def test_light_variants_train_in_all_their_parts(options):
    vit = {'type': 'TimmViT', 'model_name': 'test_vit'}
    model = LightViTAdapter(vit, deform_num_heads=4, conv_inplane=8, **options).train()
    names = [name for name, _ in model.named_parameters()]
    assert not any('extra_extractors' in name for name in names)
    assert any('.ffn.' in name for name in names) == (not options)
    with torch.no_grad():
        for interaction in model.interactions:
            interaction.injector.gamma.fill_(0.5)
    maps = model(torch.randn(2, 3, 70, 101))
    assert [tuple(x.shape[2:]) for x in maps] == [(18, 26), (9, 13), (5, 7), (3, 4)]
    sum(x.square().mean() for x in maps).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
