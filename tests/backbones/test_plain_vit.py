"""PlainViT: timm's own features of the last blocks, as maps."""

import pytest
import torch
from mmengine.registry import MODELS

import vit_dense  # noqa: F401 - registers
from vit_dense.backbones import PlainViT, TimmViT


def build(**options):
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', **options.pop('vit', {})}
    return MODELS.build({'type': 'PlainViT', 'vit': vit, **options}).eval()


@pytest.mark.parametrize('num_maps', [1, 4, 6])
@pytest.mark.parametrize('final_norm', [True, False])
@pytest.mark.parametrize('name', ['test_vit', 'vit_small_patch14_reg4_dinov2'])
def test_maps_are_timms(name, num_maps, final_norm):
    kwargs = {} if name == 'test_vit' else {'depth': 6, 'embed_dim': 48, 'num_heads': 3}
    vit = {'model_name': name, 'final_norm': final_norm, 'model_kwargs': kwargs}
    model = build(vit=vit, num_maps=num_maps)
    edge = model.vit.patch_size
    image = torch.randn(2, 3, 3 * edge, 5 * edge)
    with torch.no_grad():
        maps = model(image)
        expected = model.vit.model.forward_intermediates(
            image, indices=num_maps, norm=final_norm, intermediates_only=True
        )
    assert len(maps) == num_maps
    assert [x.shape[1] for x in maps] == list(model.out_channels)
    for got, wanted in zip(maps, expected, strict=True):
        assert got.shape[-2:] == (3, 5)
        assert torch.equal(got, wanted)


def test_sizes_are_rounded_up():
    (found,) = build()(torch.randn(1, 3, 33, 70))
    assert found.shape == (1, 64, 3, 5)


def test_frozen_vit_rests():
    model = build(vit={'frozen_stages': 6, 'drop_path_rate': 0.5}, num_maps=2).train()
    assert not any(p.requires_grad for p in model.parameters())
    image = torch.randn(1, 3, 48, 48)
    first, second = model(image), model(image)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert not any(x.requires_grad for x in first)


def test_blocks_after_the_last_map_are_frozen():
    model = build(out_indices=(1, 3), vit={'final_norm': True}).train()
    sum(x.square().mean() for x in model(torch.randn(1, 3, 32, 32))).backward()
    for name, parameter in model.named_parameters():
        later = name.startswith(('vit.model.blocks.4.', 'vit.model.blocks.5.'))
        assert parameter.requires_grad != later, name
        assert (parameter.grad is None) == later, name


def test_mistakes_are_told():
    for number in (0, 7):
        with pytest.raises(ValueError, match=rf"num_maps={number}: 'test_vit' has 6 blocks"):
            build(num_maps=number)
    with pytest.raises(ValueError, match=r'shape \(1, 1, 32, 32\).*in_chans'):
        PlainViT({'type': 'TimmViT', 'model_name': 'test_vit'})(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(
    ('name', 'kwargs', 'asked'),
    [
        ('beit_base_patch16_224', {'depth': 1}, {'global_pool': 'token'}),
        (
            'vit_tiny_patch16_224',
            {'depth': 1, 'class_token': False, 'global_pool': 'avg'},
            {'fc_norm': False},
        ),
    ],
)
def test_a_final_norm_that_timm_does_not_build_is_refused(name, kwargs, asked):
    with pytest.raises(ValueError, match=r'final_norm=True.*timm builds none.*asks for one'):
        TimmViT(name, final_norm=True, model_kwargs=kwargs)
    vit = TimmViT(name, final_norm=True, model_kwargs=kwargs | asked)
    assert isinstance(vit.model.norm, torch.nn.LayerNorm)
