"""The architecture that a weight file wants, told from names and shapes alone."""

import re

import pytest
import timm
import torch

from vit_dense.weights.architecture import guess_architecture


@pytest.mark.parametrize(
    ('name', 'options'),
    [
        ('vit_tiny_patch16_224', {}),
        ('vit_large_patch16_384', {}),
        ('vit_base_patch8_224', {'depth': 3}),
        ('vit_base_patch32_224', {'class_token': False, 'global_pool': 'avg'}),
        ('vit_small_patch14_dinov2', {}),
        ('vit_base_patch14_reg4_dinov2', {}),
        ('deit_tiny_distilled_patch16_224', {}),
        ('deit3_small_patch16_224', {}),
        ('beit_base_patch16_224', {}),
        ('beit_base_patch16_384', {}),
        ('eva02_tiny_patch14_336', {}),
        # a final norm where the architecture has one after pooling, or none
        ('vit_base_patch16_224', {'class_token': False, 'global_pool': 'avg', 'fc_norm': False}),
        ('beit_base_patch16_224', {'global_pool': 'token'}),
        ('eva02_base_patch14_224', {'global_pool': 'token', 'depth': 2}),
        ('beit_base_patch16_224', {'use_abs_pos_emb': True}),
        ('vit_giant_patch14_dinov2', {'depth': 2}),
        ('vit_giant_patch14_reg4_dinov2', {'depth': 2}),
    ],
)
def test_the_named_architecture_has_the_file_s_tensors(name, options):
    with torch.device('meta'):
        state = timm.create_model(name, num_classes=0, **options).state_dict()
        found, kwargs = guess_architecture(state)
        model = timm.create_model(found, num_classes=0, **kwargs)
    assert found == re.sub('_(?:336|384)$', '_224', name)
    shapes = {k: t.shape for k, t in model.state_dict().items()}
    assert shapes == {k: t.shape for k, t in state.items()}


# CLIP's activation does not show in a file, nor how DINOv3 turns its queries.
@pytest.mark.parametrize(
    ('name', 'family'),
    [
        ('resnet18', 'a ResNet'),
        ('vit_base_patch16_clip_224', 'a plain ViT'),
        ('vit_small_patch16_dinov3', 'a plain ViT'),
    ],
)
def test_other_networks_are_refused(name, family):
    with torch.device('meta'):
        state = timm.create_model(name).state_dict()
    with pytest.raises(ValueError, match=rf'cannot be told.*{family}.*--model-name'):
        guess_architecture(state)


def authors(name, *rules, **options):
    """A timm state dict with other authors' names."""
    with torch.device('meta'):
        state = timm.create_model(name, num_classes=0, **options).state_dict()
    for pattern, replacement in rules:
        state = {re.sub(pattern, replacement, key): tensor for key, tensor in state.items()}
    return state


def test_grouped_blocks_of_dinov2():
    state = authors('vit_small_patch14_dinov2', (r'blocks\.(\d)\.', r'blocks.0.\1.'), depth=3)
    found, kwargs = guess_architecture({f'backbone.{key}': t for key, t in state.items()})
    assert (found, kwargs['depth']) == ('vit_small_patch14_dinov2', 3)


EVA02_OF_MMPRETRAIN = (
    (r'mlp\.fc1\.', 'mlp.w12.'),
    (r'mlp\.fc2\.', 'mlp.w3.'),
    (r'^blocks', 'layers'),
    (r'^patch_embed\.proj', 'patch_embed.projection'),
    (r'^', 'backbone.'),
)


@pytest.mark.parametrize('rules', [EVA02_OF_MMPRETRAIN, EVA02_OF_MMPRETRAIN[:2]])
def test_the_names_of_small_eva02(rules):
    state = authors('eva02_tiny_patch14_224', *rules)
    state[f'{"backbone." * (len(rules) > 2)}rope.freqs_cos'] = torch.zeros(256, 64)
    found, kwargs = guess_architecture(state)
    assert (found, kwargs['depth'], kwargs['img_size']) == ('eva02_tiny_patch14_224', 12, 224)
