"""What every adapter promises: strides, any size, gradients everywhere, clear errors."""

import pytest
import torch
from families import every_family, small_kwargs
from mmengine.registry import MODELS

from vit_dense.adapters import SimpleFeaturePyramid, ViTAdapter, ViTCoMer
from vit_dense.ops import MSDeformAttn

ADAPTERS = {
    'SimpleFeaturePyramid': {'out_channels': 16},
    'ViTAdapter': {'deform_num_heads': 3, 'conv_inplane': 8},
    'ViTCoMer': {'deform_num_heads': 3, 'conv_inplane': 8},
}
every_adapter = pytest.mark.parametrize('adapter', ADAPTERS)


def build(adapter: str, name: str = 'vit_tiny_patch16_224', *, fresh: bool = False, **vit):
    """The adapter on a small ViT, as initialised or with no parameter left at zero."""
    kwargs = {**small_kwargs(name), **vit.pop('model_kwargs', {})}
    if name == 'test_vit':
        kwargs = {'depth': 4, 'embed_dim': 48, 'num_heads': 3}
    vit = {'type': 'TimmViT', 'model_name': name, 'model_kwargs': kwargs, **vit}
    model = MODELS.build({'type': adapter, 'vit': vit, **ADAPTERS[adapter]})
    for parameter in model.parameters():
        if not fresh and not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return model


def check_maps(maps, image, channels):
    height, width = image.shape[-2:]
    expected = [(len(image), c, -(-height // s), -(-width // s))
                for c, s in zip(channels, (4, 8, 16, 32), strict=True)]  # fmt: skip
    assert [tuple(x.shape) for x in maps] == expected
    assert all(x.isfinite().all() for x in maps)


@every_adapter
@every_family
def test_strides_and_gradients_of_every_family(adapter, name):
    """A rectangular image that nothing divides; then each trainable parameter has a gradient."""
    model = build(adapter, name).train()
    image = torch.randn(2, 3, 70, 101)
    maps = model(image)
    check_maps(maps, image, model.out_channels)
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    silent = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert silent == []


@every_adapter
@pytest.mark.parametrize('size', [(32, 32), (33, 64), (64, 47), (127, 129)])
@pytest.mark.parametrize(
    'name',
    [
        'vit_small_patch8_224',
        'vit_tiny_patch16_224',
        'vit_small_patch14_reg4_dinov2',
        'vit_base_patch32_224',
    ],
)
def test_any_size_and_patch(adapter, name, size):
    model = build(adapter, name).eval()
    image = torch.randn(1, 3, *size)
    with torch.no_grad():
        check_maps(model(image), image, model.out_channels)


@every_adapter
def test_trains_at_batch_one_and_the_smallest_size(adapter):
    model = build(adapter).train()
    maps = model(torch.randn(1, 3, 32, 32))
    sum(x.sum() for x in maps).backward()


@every_adapter
@pytest.mark.parametrize('patch', [14, 16])
def test_maps_lie_where_the_image_is(adapter, patch):
    """A bright spot moves the maps most around the spot, at every stride."""
    name = 'vit_tiny_patch16_224' if patch == 16 else 'vit_small_patch14_dinov2'
    model = build(adapter, name, fresh=True).eval()
    # a ViT that passes patches through, so that the maps show where things lie
    for block in model.vit.model.blocks:
        torch.nn.init.zeros_(block.attn.proj.weight)
        torch.nn.init.zeros_(block.mlp.fc2.weight)
    # untrained offsets look several cells around: chained, they draw the centre inwards
    for module in model.modules():
        if isinstance(module, MSDeformAttn):
            torch.nn.init.zeros_(module.sampling_offsets.bias)
    dark = torch.zeros(1, 3, 224, 224)
    bright = dark.clone()
    bright[:, :, 140:196, 28:84] = 3.0
    with torch.no_grad():
        for stride, x, y in zip((4, 8, 16, 32), model(dark), model(bright), strict=True):
            change = (x - y).abs().sum(1)[0]
            rows = (torch.arange(len(change)) + 0.5) * stride
            centre_y = (change.sum(1) * rows).sum() / change.sum()
            centre_x = (change.sum(0) * rows).sum() / change.sum()
            assert centre_y.item() == pytest.approx(168, abs=20), stride
            assert centre_x.item() == pytest.approx(56, abs=20), stride


@every_adapter
def test_padding_to_the_patch_is_not_a_crop(adapter):
    """What lies in the last, incomplete patch reaches the maps."""
    model = build(adapter).eval()
    image = torch.zeros(1, 3, 64, 72)
    changed = image.clone()
    changed[..., 64:] = 1
    with torch.no_grad():
        for x, y in zip(model(image), model(changed), strict=True):
            assert not torch.allclose(x[..., -1], y[..., -1])


@every_adapter
@pytest.mark.parametrize(
    ('shape', 'message'),
    [
        ((1, 3, 31, 64), r'31x64 px.*at least 32x32'),
        ((1, 3, 64, 16), r'64x16 px'),
        ((1, 1, 64, 64), r'\(1, 1, 64, 64\).*\(B, 3, H, W\).*grayscale'),
        ((1, 4, 64, 64), r'RGBA'),
        ((3, 64, 64), r'\(3, 64, 64\)'),
    ],
)
def test_unfit_images_are_refused(adapter, shape, message):
    with pytest.raises(ValueError, match=message):
        build(adapter).eval()(torch.zeros(shape))


@every_adapter
def test_four_channel_models_take_four_channels(adapter):
    model = build(adapter, model_kwargs={'in_chans': 4}).eval()
    check_maps(model(torch.zeros(1, 4, 64, 64)), torch.zeros(1, 4, 64, 64), model.out_channels)


@every_adapter
def test_windows_checkpointing_and_channels_last_change_nothing(adapter):
    plain = build(adapter)
    windowed = build(adapter, window_size=4, grad_checkpointing=True).train()
    windowed.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)  # one window
    expected = plain.train()(image)
    out = windowed(image.contiguous(memory_format=torch.channels_last))
    for x, y in zip(out, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-3, atol=1e-3)
    sum(x.sum() for x in out).backward()


@every_adapter
@pytest.mark.parametrize(
    'name', ['vit_tiny_patch16_224', 'vit_small_patch16_dinov3', 'beit_base_patch16_224']
)
def test_autocast(adapter, name):
    model = build(adapter, name, window_size=3).train()
    image = torch.randn(2, 3, 64, 96)
    expected = model(image)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = model(image)
    sum(x.float().square().mean() for x in out).backward()
    for x, y in zip(out, expected, strict=True):
        assert x.isfinite().all()
        assert (x.float() - y).abs().mean() < 0.1 * y.abs().mean() + 0.02
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@every_adapter
def test_frozen_vit_leaves_no_gradient_and_no_unused_parameter(adapter):
    model = build(adapter, frozen_stages=4).train()
    sum(x.square().sum() for x in model(torch.randn(2, 3, 64, 64))).backward()
    for name, parameter in model.named_parameters():
        if name.startswith('vit.'):
            assert not parameter.requires_grad
            assert parameter.grad is None
        else:
            assert parameter.grad is not None, name
    assert not any(block.training for block in model.vit.model.blocks)


@every_adapter
def test_types_resolve_from_the_scopes_of_mmseg_and_mmdet(adapter):
    for package in ('mmseg', 'mmdet'):
        registry = pytest.importorskip(f'{package}.registry').MODELS
        assert registry.get(adapter) in (SimpleFeaturePyramid, ViTAdapter, ViTCoMer)
