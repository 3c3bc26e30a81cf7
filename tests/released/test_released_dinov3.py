"""The adapter of DINOv3's release: recognised, loaded whole, refused where settings differ.

The state dicts are written from names and shapes alone. That a model with the settings of such a
file computes the released module's maps is shown by `benchmarks/parity/released_dinov3.py`.
"""

import re

import pytest
import torch
from mmengine.registry import MODELS
from released_layouts import (
    DEPTH,
    WIDTH,
    adapter_stage,
    affine,
    below,
    fill,
    image,
    stem_shapes,
    value,
)

from vit_dense.adapters import ViTAdapter
from vit_dense.backbones import TimmViT
from vit_dense.released import ReleasedDINOv3, recognise_dinov3, recognise_released
from vit_dense.weights import CheckpointMismatchError, load_vit_weights, recognise_foreign


def vit_shapes(*, gated=False):
    """Meta's layout: registers, no positions, a bias mask, and what only training needs."""
    shapes = {'cls_token': (1, 1, WIDTH), 'storage_tokens': (1, 4, WIDTH), 'mask_token': (1, WIDTH)}
    shapes |= {'rope_embed.periods': (4,)} | affine('norm', WIDTH)
    shapes |= affine('patch_embed.proj', WIDTH, 3, 16, 16)
    for i in range(DEPTH):
        block = affine('norm1', WIDTH) | affine('norm2', WIDTH)
        block |= affine('attn.qkv', 3 * WIDTH, WIDTH) | {'attn.qkv.bias_mask': (3 * WIDTH,)}
        block |= affine('attn.proj', WIDTH, WIDTH)
        block |= {'ls1.gamma': (WIDTH,), 'ls2.gamma': (WIDTH,)}
        hidden = 4 * WIDTH
        if gated:
            hidden = 88  # two thirds, rounded up to a multiple of 8
            block |= affine('mlp.w1', hidden, WIDTH) | affine('mlp.w2', hidden, WIDTH)
            block |= affine('mlp.w3', WIDTH, hidden)
        else:
            block |= affine('mlp.fc1', hidden, WIDTH) | affine('mlp.fc2', WIDTH, hidden)
        shapes |= below(f'blocks.{i}', block)
    return shapes


def released_state(*, biases=True, vit=True, **options):
    """A state dict of the released module; heads of 16 channels."""
    shapes = below('backbone', vit_shapes(**options)) if vit else {}
    shapes |= stem_shapes()
    for i in range(DEPTH):
        stage = adapter_stage(i == DEPTH - 1, ffn=True)
        stage = {name: shape for name, shape in stage.items() if 'injector' not in name}
        shapes |= below(f'interactions.{i}', stage)
    state = {name: value(name, i, shape) for i, (name, shape) in enumerate(shapes.items())}
    for name in [name for name in state if name.endswith('qkv.bias')]:
        state[name] *= biases
    return state


def build(released, **changes):
    settings = {**released.settings, **changes}
    return MODELS.build(settings).eval()


@pytest.mark.parametrize('biases', [False, True])
@pytest.mark.parametrize('prefix', ['', 'segmentation_model.0.', 'module.backbone.'])
@torch.no_grad()
def test_every_tensor_is_loaded(prefix, biases):
    state = released_state(biases=biases)
    file = {f'{prefix}{name}': tensor for name, tensor in state.items()}
    released = recognise_foreign(file)
    assert isinstance(released, ReleasedDINOv3)
    assert released.prefix == prefix
    model = build(released)
    loaded, report = released.plan(model.state_dict(), 'file')
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    model.load_state_dict(loaded, strict=True)
    ours = model.state_dict()
    query, _, values = state['backbone.blocks.1.attn.qkv.bias'].chunk(3)
    for theirs, name in {
        'level_embed': 'level_embed',
        'backbone.norm.weight': 'vit.model.norm.weight',
        'backbone.storage_tokens': 'vit.model.reg_token',
        'backbone.blocks.2.ls2.gamma': 'vit.model.blocks.2.gamma_2',
        'interactions.3.extra_extractors.1.ffn.dwconv.dwconv.weight': (
            'interactions.3.extra_extractors.1.ffn.dwconv.weight'
        ),
        'norm4.running_var': 'norm4.running_var',
    }.items():
        assert torch.equal(ours[name], state[theirs]), name
    if biases:
        assert torch.equal(ours['vit.model.blocks.1.attn.q_bias'], query)
        assert torch.equal(ours['vit.model.blocks.1.attn.v_bias'], values)
    else:
        assert 'vit.model.blocks.1.attn.q_bias' not in ours
    assert all(x.isfinite().all() for x in model(image()))


def test_an_adapter_loads_it_by_itself():
    """As `init_detector` and mmseg's `init_model` do, without this package's hooks."""
    state = released_state()
    model = build(recognise_dinov3(state))
    model.load_state_dict(state)
    assert torch.equal(model.level_embed, state['level_embed'])
    assert torch.equal(model.vit.model.cls_token, state['backbone.cls_token'])


def test_settings_are_told_by_names_and_shapes():
    settings = recognise_dinov3(released_state()).settings
    assert (settings['type'], settings['inject'], settings['tap_norm']) == (
        'ViTAdapter',
        False,
        True,
    )
    assert (settings['deform_num_heads'], settings['deform_ratio']) == (2, 0.5)
    assert settings['interaction_indexes'] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    assert settings['vit_feature_source'] == 'stages'
    assert settings['vit']['model_name'] == 'vit_small_patch16_dinov3_qkvb'
    assert settings['vit']['frozen_stages'] == DEPTH
    gated = recognise_dinov3(released_state(gated=True, biases=False)).settings
    assert gated['vit']['model_name'] == 'vit_small_plus_patch16_dinov3'


@pytest.mark.parametrize(
    ('width', 'depth', 'gated', 'name', 'last'),
    [
        (384, 12, False, 'vit_small_patch16_dinov3', [2, 5, 8, 11]),
        (384, 12, True, 'vit_small_plus_patch16_dinov3', [2, 5, 8, 11]),
        (768, 12, False, 'vit_base_patch16_dinov3', [2, 5, 8, 11]),
        (1024, 24, False, 'vit_large_patch16_dinov3', [4, 11, 17, 23]),
        (1280, 32, True, 'vit_huge_plus_patch16_dinov3', [7, 15, 23, 31]),
        (4096, 40, True, 'vit_7b_patch16_dinov3', [9, 19, 29, 39]),
    ],
)
def test_published_sizes(width, depth, gated, name, last):
    """The names are timm's, and the blocks those of the release."""
    state = released_state(gated=gated, biases=False)
    state['level_embed'] = torch.zeros(3, width)
    state[f'backbone.blocks.{depth - 1}.norm1.weight'] = torch.ones(width)
    settings = recognise_dinov3(state).settings
    assert settings['vit'] == {
        'type': 'TimmViT',
        'model_name': name,
        'frozen_stages': depth,
        'drop_path_rate': 0.3,
    }
    starts = [0, *(block + 1 for block in last[:-1])]
    assert settings['interaction_indexes'] == list(zip(starts, last, strict=True))


def refusal(released, **changes):
    """The error of a model with other settings."""
    model = build(released, **changes)
    with pytest.raises(CheckpointMismatchError) as caught:
        model.load_state_dict(dict(released.backbone))
    return str(caught.value)


def test_other_settings_are_refused_or_told():
    released = recognise_dinov3(released_state())
    wanted = r"model\.backbone=\{'type': 'ViTAdapter'.*'inject': False, 'tap_norm': True"
    assert re.search(wanted, refusal(released, inject=True, tap_norm=False))
    assert re.search(wanted, refusal(released, tap_norm=False))
    model = build(released)
    assert released.differences(model) == []
    model.vit_feature_source = 'last'
    model.stages = [(0, 1), (1, 2), (2, 4), (4, 4)]
    assert released.differences(model) == [
        "vit_feature_source='last', but the release has 'stages'",
        'interaction_indexes=[(0, 0), (1, 1), (2, 3), (4, 3)], but the release has '
        '[(0, 0), (1, 1), (2, 2), (3, 3)]',
    ]


def test_biases_that_the_model_lacks_are_refused():
    released = recognise_dinov3(released_state())
    vit = {**released.settings['vit'], 'model_name': 'vit_small_patch16_dinov3'}
    assert 'qkv.bias' in refusal(released, vit=vit)


def test_a_file_without_its_vit_is_refused():
    """As the file that is published for the 7B model."""
    whole, released = (
        recognise_dinov3(released_state()),
        recognise_dinov3(released_state(vit=False)),
    )
    model = build(whole)
    with pytest.raises(
        CheckpointMismatchError, match=r"lacks the ViT: add .* named 'backbone\.\*'"
    ):
        model.load_state_dict(dict(released.backbone))


def test_the_vit_alone():
    """`vit.checkpoint` takes the ViT out of the file."""
    state = released_state()
    settings = recognise_dinov3(state).settings['vit']
    vit = TimmViT(settings['model_name'], final_norm=True, model_kwargs=settings['model_kwargs'])
    report = load_vit_weights(vit.model, state)
    assert (report.missing, report.unexpected, report.matched) == ([], [], 1)
    assert torch.equal(vit.model.norm.bias, state['backbone.norm.bias'])


def test_other_files_are_not_taken_for_it():
    state = released_state()
    ours = build(recognise_dinov3(state)).state_dict()
    assert recognise_foreign(ours) is None
    assert recognise_foreign({f'backbone.{name}': t for name, t in ours.items()}) is None
    assert recognise_released(state) is None
    with_injector = state | {'interactions.0.injector.query_norm.weight': fill(1, (WIDTH,))}
    assert recognise_dinov3(with_injector) is None
    vit = {'type': 'TimmViT', 'model_name': 'test_vit'}
    adapter = ViTAdapter(vit, inject=False, deform_num_heads=4, conv_inplane=8)
    assert recognise_foreign(adapter.state_dict()) is None
