"""Weights of other image sizes, patch sizes and channels: timm's own numbers, on any grid."""

import pytest
import torch
import torch.nn.functional as F
from families import small_kwargs
from small_vits import assert_complete, assert_same
from timm.layers import resample_patch_embed
from timm.models import load_checkpoint
from timm.models.beit import Beit
from timm.models.vision_transformer import checkpoint_filter_fn
from timm.models.vision_transformer_sam import VisionTransformerSAM

from vit_dense.backbones import TimmViT
from vit_dense.weights import CheckpointMismatchError, load_vit_weights


@pytest.fixture
def source(build):
    return build(seed=1)


@pytest.mark.parametrize('img_size', [64, 128, 48, (32, 96), (96, 160)])
@pytest.mark.parametrize('no_embed_class', [False, True])
def test_grid_equals_timm(build, img_size, no_embed_class, tmp_path):
    source = build(seed=1, no_embed_class=no_embed_class)
    torch.save(source.state_dict(), tmp_path / 'vit.pth')
    ours = build(seed=2, img_size=img_size, no_embed_class=no_embed_class)
    report = load_vit_weights(ours, tmp_path / 'vit.pth')
    theirs = build(seed=3, img_size=img_size, no_embed_class=no_embed_class)
    load_checkpoint(theirs, str(tmp_path / 'vit.pth'), filter_fn=checkpoint_filter_fn, strict=True)
    assert_same(ours, theirs.state_dict())
    assert_complete(report)
    assert list(report.resized) == ([] if img_size == 64 else ['pos_embed'])


def test_without_antialias(build, source):
    model = build(img_size=(32, 96))
    load_vit_weights(model, source.state_dict(), antialias=False)
    grid = source.pos_embed[:, 1:].reshape(1, 4, 4, 32).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(2, 6), mode='bicubic', align_corners=False)
    expected = expected.permute(0, 2, 3, 1).reshape(1, 12, 32)
    assert torch.equal(model.pos_embed[:, 1:], expected)
    assert torch.equal(model.pos_embed[:, :1], source.pos_embed[:, :1])


def test_rectangular_round_trip(build):
    source = build(seed=1, img_size=(32, 96))
    model = build(seed=2, img_size=(32, 96))
    report = load_vit_weights(model, source.state_dict())
    assert_same(model, source.state_dict())
    assert report.resized == {}


def test_rectangular_file_needs_its_grid_named(build):
    source = build(seed=1, img_size=(32, 96))
    model = build(seed=2, img_size=64)
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError, match=r'13 positions.*pos_grid=\(rows'):
        load_vit_weights(model, source.state_dict())
    assert_same(model, before)
    with pytest.raises(CheckpointMismatchError, match=r'pos_grid=\(3, 5\)'):
        load_vit_weights(model, source.state_dict(), pos_grid=(3, 5))

    report = load_vit_weights(model, source.state_dict(), pos_grid=(2, 6))
    assert report.resized == {'pos_embed': 'grid 2x6 -> 4x4'}
    grid = source.pos_embed[:, 1:].reshape(1, 2, 6, 32).permute(0, 3, 1, 2)
    expected = F.interpolate(grid, size=(4, 4), mode='bicubic', antialias=True)
    assert torch.equal(model.pos_embed[0, 1:], expected.flatten(2)[0].T)


@pytest.mark.parametrize('file_has_slot', [True, False])
@pytest.mark.parametrize('registers', [0, 4])
def test_cls_slot_or_not_is_the_same_function(build, file_has_slot, registers):
    source = build(seed=1, no_embed_class=not file_has_slot, reg_tokens=registers)
    model = build(seed=2, no_embed_class=file_has_slot, reg_tokens=registers)
    if registers and file_has_slot:
        # Registers with positions: their slots cannot be folded into a token of their own shape.
        with torch.no_grad():
            source.pos_embed[:, 1 : 1 + registers] = 0
    report = load_vit_weights(model, source.state_dict())
    assert 'prefix slots' in report.resized['pos_embed']
    image = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(
        model.forward_features(image), source.forward_features(image), atol=1e-5, rtol=1e-5
    )


def test_cls_slot_without_cls_token(build, source):
    # As the released ViT-Adapter stores positions: a slot, but no token.
    file = {k: v for k, v in source.state_dict().items() if k != 'cls_token'}
    model = build(class_token=False, global_pool='avg', fc_norm=False)
    assert_complete(load_vit_weights(model, file))
    assert torch.equal(model.pos_embed, source.pos_embed[:, 1:])


@pytest.mark.parametrize('in_chans', [1, 4, 6])
def test_input_channels(build, source, in_chans):
    model = build(in_chans=in_chans)
    report = load_vit_weights(model, source.state_dict())
    assert_complete(report)
    assert report.resized == {'patch_embed.proj.weight': f'input channels 3 -> {in_chans}'}
    if in_chans == 1:  # a grey image gives what the same image gave as RGB
        image = torch.randn(1, 1, 64, 64)
        torch.testing.assert_close(
            model.patch_embed(image), source.patch_embed(image.expand(-1, 3, -1, -1))
        )


@pytest.mark.parametrize('patch_size', [8, 14, 32])
def test_patch_kernel_equals_timm(build, source, patch_size):
    model = build(patch_size=patch_size, img_size=4 * patch_size)
    report = load_vit_weights(model, source.state_dict())
    expected = resample_patch_embed(source.patch_embed.proj.weight, [patch_size, patch_size])
    assert torch.equal(model.patch_embed.proj.weight, expected)
    assert torch.equal(model.pos_embed, source.pos_embed)
    assert report.resized == {
        'patch_embed.proj.weight': f'kernel 16x16 -> {patch_size}x{patch_size}'
    }


def test_everything_at_once(build, source):
    model = build(patch_size=8, img_size=(48, 80), in_chans=1, no_embed_class=True)
    report = load_vit_weights(model, source.state_dict())
    assert_complete(report)
    assert report.resized == {
        'pos_embed': 'grid 4x4 -> 6x10, prefix slots 1 -> 0',
        'patch_embed.proj.weight': 'input channels 3 -> 1, kernel 16x16 -> 8x8',
    }
    assert '2 resized' in str(report)


def test_linear_patch_projection(build, source):
    file = dict(source.state_dict())
    file['patch_embed.proj.weight'] = file['patch_embed.proj.weight'].flatten(1)
    model = build()
    load_vit_weights(model, file)
    assert_same(model, source.state_dict())
    bigger = build(patch_size=32, img_size=128)
    load_vit_weights(bigger, file)
    expected = resample_patch_embed(source.patch_embed.proj.weight, [32, 32])
    assert torch.equal(bigger.patch_embed.proj.weight, expected)


@pytest.mark.parametrize('img_size', [96, (48, 96)])
def test_relative_tables_equal_timm(build, img_size):
    options = {'use_abs_pos_emb': True, 'use_rel_pos_bias': True, 'init_values': 0.1}
    source = build(Beit, seed=1, **options)
    model = build(Beit, img_size=img_size, **options)
    report = load_vit_weights(model, source.state_dict())
    assert_complete(report)
    from timm.models.beit import checkpoint_filter_fn as beit_filter

    expected = beit_filter(dict(source.state_dict()), build(Beit, img_size=img_size, **options))
    assert_same(model, expected)
    table = 'blocks.1.attn.relative_position_bias_table'
    assert report.resized[table].startswith('table (52, 2) -> ')
    assert '(and 1 like it)' in str(report)


def test_a_rectangle_that_looks_like_a_square(build):
    """4x6 cells and a cls slot are as many as 5x5: which of them no file tells."""
    source = build(seed=1, img_size=(64, 96))
    model = build(seed=2, img_size=(64, 64))
    report = load_vit_weights(model, source.state_dict())
    assert report.resized == {'pos_embed': 'grid 5x5 -> 4x4, prefix slots 0 -> 1'}
    assert 'trained on a rectangle, name it: pos_grid=' in str(report)
    report = load_vit_weights(model, source.state_dict(), pos_grid=(4, 6))
    assert report.resized == {'pos_embed': 'grid 4x6 -> 4x4'}
    assert 'rectangle' not in str(report)


def test_tables_of_another_rectangle_are_told(build):
    options = {'use_rel_pos_bias': True, 'use_abs_pos_emb': False, 'init_values': 0.1}
    source = build(Beit, seed=1, img_size=(64, 96), **options).state_dict()
    same = build(Beit, img_size=(64, 96), **options)
    assert_complete(load_vit_weights(same, source))
    assert_same(same, source)
    with pytest.raises(CheckpointMismatchError, match=r'img_size=\(height, width\)'):
        load_vit_weights(build(Beit, **options), source)


@pytest.mark.parametrize('size', [64, (96, 128)])
def test_positions_of_vitdet(build, size):
    """A row with a slot in front, where SAM has a map."""
    model = build(VisionTransformerSAM, img_size=size, window_size=2, use_rel_pos=False)
    source = build(VisionTransformerSAM, seed=1, window_size=2, use_rel_pos=False).state_dict()
    square = source['pos_embed']
    slot = torch.full((1, 1, 32), 9.0)
    source['pos_embed'] = torch.cat([slot, square.flatten(1, 2)], dim=1)
    report = load_vit_weights(model, {f'backbone.net.{name}': t for name, t in source.items()})
    assert report.missing == report.unexpected == []
    expected = build(VisionTransformerSAM, seed=2, img_size=size, window_size=2, use_rel_pos=False)
    load_vit_weights(expected, source | {'pos_embed': square})
    assert torch.equal(model.pos_embed, expected.pos_embed)
    assert report.resized['pos_embed'].startswith('prefix slots 1 -> 0')


def test_segment_anything(build):
    options = {'use_abs_pos': True, 'use_rel_pos': True, 'window_size': 0, 'neck_chans': 0}
    source = build(VisionTransformerSAM, seed=1, **options)
    renamed = {
        'image_encoder.' + name.replace('mlp.fc', 'mlp.lin'): t
        for name, t in source.state_dict().items()
    }
    model = build(VisionTransformerSAM, **options)
    assert_complete(load_vit_weights(model, renamed | {'mask_decoder.x': torch.ones(3)}))
    assert_same(model, source.state_dict())

    bigger = build(VisionTransformerSAM, img_size=(96, 128), **options)
    report = load_vit_weights(bigger, source.state_dict())
    assert_complete(report)
    assert report.resized['pos_embed'] == 'grid 4x4 -> 6x8'
    assert report.resized['blocks.0.attn.rel_pos_h'] == 'table 7 -> 11'
    assert report.resized['blocks.0.attn.rel_pos_w'] == 'table 7 -> 15'


def test_half_precision_file(build, source):
    model = build(img_size=96)
    load_vit_weights(model, {k: t.half() for k, t in source.state_dict().items()})
    assert model.pos_embed.dtype == torch.float32
    expected = source.blocks[0].attn.qkv.weight.half().float()
    assert torch.equal(model.blocks[0].attn.qkv.weight, expected)


@pytest.mark.parametrize(
    ('name', 'layer'),
    [
        ('vit_tiny_r_s16_p8_224', 'patch_embed.backbone.conv'),
        ('vitamin_small_224', 'patch_embed.backbone.stem.conv1'),
        ('xcit_nano_12_p8_224', 'patch_embed.proj.0.0'),
    ],
)
def test_input_channels_of_stems(name, layer):
    source = TimmViT(name, model_kwargs=small_kwargs(name)).model
    model = TimmViT(name, model_kwargs={**small_kwargs(name), 'in_chans': 1}).model
    report = load_vit_weights(model, source.state_dict())
    assert report.resized == {f'{layer}.weight': 'input channels 3 -> 1'}
    expected = source.get_submodule(layer).weight.sum(1, keepdim=True)
    torch.testing.assert_close(model.get_submodule(layer).weight, expected)
