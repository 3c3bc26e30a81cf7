"""mmseg's own ViTs hand their weights to timm's, and both compute the same."""

import pytest
import timm
import torch

from vit_dense.weights import load_vit_weights

pytest.importorskip('mmseg')

SMALL = {'num_layers': 2, 'embed_dims': 48, 'num_heads': 3, 'out_indices': -1}
TIMM = {'depth': 2, 'embed_dim': 48, 'num_heads': 3, 'img_size': 64, 'num_classes': 0}
LAYER_NORM = {'type': 'LN', 'eps': 1e-6}


@pytest.mark.parametrize(
    ('kind', 'theirs', 'name', 'ours'),
    [
        ('VisionTransformer', {}, 'vit_tiny_patch16_224', {}),
        ('VisionTransformer', {'patch_bias': True}, 'vit_tiny_patch16_224', {}),
        ('BEiT', {'qv_bias': True, 'init_values': 0.1}, 'beit_base_patch16_224',
         {'init_values': 0.1}),
        ('MAE', {'init_values': 0.1}, 'beit_base_patch16_224',
         {'init_values': 0.1, 'use_abs_pos_emb': True}),
    ],
)  # fmt: skip
@torch.no_grad()
def test_same_features(kind, theirs, name, ours):
    from mmseg.models import backbones

    options = {'img_size': (64, 64), 'norm_cfg': LAYER_NORM, 'final_norm': False, **SMALL}
    source = getattr(backbones, kind)(**{**options, **theirs})
    source.eval()  # mmseg's returns None
    for parameter in source.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model = timm.create_model(name, **{**TIMM, **ours}).eval()
    model.norm = torch.nn.Identity()
    file = {f'backbone.{k}': t for k, t in source.state_dict().items()}
    report = load_vit_weights(model, {'meta': {}, 'state_dict': file})
    assert all('norm.' in missing for missing in report.missing)  # after pooling, BEiT's
    assert report.unexpected == []
    image = torch.randn(1, 3, 64, 64)
    (features,) = model.forward_intermediates(image, indices=[1], intermediates_only=True)
    torch.testing.assert_close(features, source(image)[-1], atol=1e-5, rtol=0)
