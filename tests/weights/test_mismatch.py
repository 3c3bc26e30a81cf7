"""Foreign weights are refused with the likely cause, and the model stays as it was."""

import pytest
import timm
import torch
from small_vits import assert_same
from timm.models.beit import Beit

from vit_dense.weights import CheckpointMismatchError, load_vit_weights

PATCHES_ONLY = {'no_embed_class': True}  # positions as DINOv2 with registers has them


def refuse(model, source, *parts, **options):
    """Assert that loading fails with all `parts` in its message and leaves the model alone."""
    before = {name: t.clone() for name, t in model.state_dict().items()}
    with pytest.raises(CheckpointMismatchError) as caught:
        load_vit_weights(model, source, **options)
    for part in parts:
        assert part in str(caught.value)
    assert_same(model, before)
    return caught.value


@pytest.mark.parametrize(
    ('architecture', 'family'),
    [
        ('resnet18', 'a ResNet'),
        ('swin_tiny_patch4_window7_224', 'a Swin Transformer'),
        ('convnext_atto', 'a ConvNeXt'),
        ('efficientnet_b0', 'an EfficientNet'),
        ('pvt_v2_b0', 'a hierarchical transformer'),
    ],
)
def test_other_architectures(build, architecture, family):
    with torch.device('meta'):
        state = timm.create_model(architecture).state_dict()
    state = {name: torch.zeros(t.shape) for name, t in state.items()}
    refuse(build(), state, f'it looks like {family}', 'the model is a plain ViT of width 32')


def test_file_is_named(build, tmp_path):
    torch.save(
        {'conv1.weight': torch.zeros(1), 'layer1.0.conv1.weight': torch.zeros(1)},
        tmp_path / 'r.pth',
    )
    error = refuse(build(), tmp_path / 'r.pth', str(tmp_path / 'r.pth'), 'unexpected (2): conv1')
    assert error.report.matched == 0
    assert error.report.unexpected == ['conv1.weight', 'layer1.0.conv1.weight']


def test_other_vit_family(build):
    beit = build(Beit, use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.1)
    refuse(build(), beit.state_dict(), 'a BEiT or EVA', 'choose a model_name of the family')
    refuse(beit, build().state_dict(), 'it looks like a plain ViT')


def test_unknown_names(build):
    refuse(build(), {'foo': torch.zeros(1)}, 'no family known here')


def test_width(build):
    wide = build(embed_dim=48)
    error = refuse(build(), wide.state_dict(), 'width 48 in the file and 32 in the model')
    assert error.report.mismatched['patch_embed.proj.bias'] == ((48,), (32,))


@pytest.mark.parametrize('dtype', [torch.int8, torch.complex64])
def test_numbers_of_another_kind(build, dtype):
    state = build(seed=1).state_dict()
    state['norm.bias'] = state['norm.bias'].to(dtype)
    refuse(build(), state, f'wrong numbers: norm.bias is {dtype} in the file, torch.float32 in')


def test_half_precision_is_no_other_kind(build):
    state = {name: t.bfloat16() for name, t in build(seed=1).state_dict().items()}
    model = build()
    load_vit_weights(model, state)
    assert_same(model, {name: t.float() for name, t in state.items()})


@pytest.mark.parametrize('depth', [1, 3])
def test_depth(build, depth):
    other = build(depth=depth)
    refuse(build(), other.state_dict(), f'depth {depth} in the file and 2 in the model')


def test_one_block_of_many_is_still_another_depth(build):
    # 11 of 12 blocks pass a share of 0.9, yet one block would stay random.
    deep, shallow = build(depth=12), build(depth=11)
    cause = 'the networks differ in blocks.11.norm1.weight'
    refuse(deep, shallow.state_dict(), cause, 'depth 11 in the file and 12 in the model')
    refuse(shallow, deep.state_dict(), cause, 'depth 12 in the file and 11 in the model')


def test_layer_scale_is_never_dropped(build):
    plain, scaled = build(seed=1), build(seed=2, init_values=1e-5)
    refuse(plain, scaled.state_dict(), 'the networks differ in blocks.0.ls1.gamma')
    refuse(scaled, plain.state_dict(), 'the networks differ in blocks.0.ls1.gamma')


def test_layer_scale_of_one_may_be_added(build):
    plain, scaled = build(seed=1), build(seed=2, init_values=1.0)
    for block in scaled.blocks:
        torch.nn.init.ones_(block.ls1.gamma)
        torch.nn.init.ones_(block.ls2.gamma)
    report = load_vit_weights(scaled, plain.state_dict())
    assert len(report.missing) == 4
    image = torch.randn(1, 3, 64, 64)
    assert torch.equal(scaled(image), plain(image))


@pytest.mark.parametrize('name', ['pos_embed', 'patch_embed.proj.bias', 'blocks.1.attn.qkv.bias'])
def test_small_but_essential_parts(build, name):
    state = {k: v for k, v in build(seed=1).state_dict().items() if k != name}
    refuse(build(), state, f'the networks differ in {name}')


def test_zero_threshold_accepts_what_fits(build):
    source = build(seed=1, depth=3)
    model = build()
    report = load_vit_weights(model, source.state_dict(), min_matched=0)
    assert torch.equal(model.blocks[1].mlp.fc1.weight, source.blocks[1].mlp.fc1.weight)
    assert all(name.startswith('blocks.2.') for name in report.unexpected)


def test_wrong_shape_is_never_skipped(build):
    state = build(seed=1).state_dict()
    state['blocks.0.norm1.weight'] = torch.ones(31)
    text = 'wrong shape: blocks.0.norm1.weight is (31,) in the file, (32,) in the model'
    refuse(build(), state, text, min_matched=0)


def test_threshold(build):
    state = {k: v for k, v in build(seed=1).state_dict().items() if 'mlp.fc1' not in k}
    message = refuse(build(), state, 'at least 90% must', 'missing (4): blocks.0.mlp.fc1.weight')
    assert load_vit_weights(build(), state, min_matched=0).matched == message.report.matched
    assert 0.5 < message.report.matched < 0.9


def test_patch_size_that_contradicts_the_weights(build):
    model = build(patch_size=14, img_size=56)
    refuse(
        model,
        build(seed=1).state_dict(),
        'patch_size',
        'kernel 16x16 -> 14x14',
        resize_patch=False,
    )
    assert load_vit_weights(model, build(seed=1).state_dict()).matched == 1


def test_head_of_another_size_is_ignored(build):
    source = build(seed=1, num_classes=7)
    model = build(num_classes=5)
    report = load_vit_weights(model, source.state_dict())
    assert report.ignored == ['head.weight', 'head.bias']
    assert report.missing == []
    same = build(num_classes=7)
    load_vit_weights(same, source.state_dict())
    assert_same(same, source.state_dict())


@pytest.mark.parametrize('share', [-0.1, 1.1])
def test_share_out_of_range(build, share):
    with pytest.raises(ValueError, match='min_matched'):
        load_vit_weights(build(), {}, min_matched=share)


@pytest.mark.parametrize(
    ('in_file', 'in_model', 'part'),
    [
        (PATCHES_ONLY, {**PATCHES_ONLY, 'reg_tokens': 4}, 'reg_token'),
        ({**PATCHES_ONLY, 'reg_tokens': 4}, PATCHES_ONLY, 'reg_token'),
        ({'class_token': False, 'global_pool': 'avg'}, {}, 'cls_token'),
        ({}, {'class_token': False, 'global_pool': 'avg'}, 'cls_token'),
    ],
)
def test_other_prefix_tokens_are_another_network(build, in_file, in_model, part):
    """Random registers, or registers thrown away, must not pass for the file's network."""
    source = build(seed=1, **in_file).state_dict()
    with pytest.raises(CheckpointMismatchError, match=part):
        load_vit_weights(build(**in_model), source)
