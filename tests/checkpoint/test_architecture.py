"""The architecture that a weight file wants, told from names and shapes alone."""

import re

import pytest
import timm
import torch

from vit_dense.checkpoint.architecture import guess_architecture


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


def test_other_networks_are_refused():
    with torch.device('meta'):
        state = timm.create_model('resnet18').state_dict()
    with pytest.raises(ValueError, match=r'cannot be told.*a ResNet.*--model-name'):
        guess_architecture(state)
