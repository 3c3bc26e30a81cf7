"""Released ViT-Adapter and ViT-CoMer weights: recognised, loaded whole, the same function.

What is compared with was computed by the released modules themselves; see `released_layouts`.
"""

import json
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from released_layouts import GRID, VIT_HEADS, WINDOW, image, released_state, square
from small_vits import assert_complete

from vit_dense.released import recognise_released
from vit_dense.weights import CheckpointMismatchError, load_vit_weights

RECORDED = json.loads(Path(__file__).with_name('recorded_outputs.json').read_text())
METHODS = ('ViTAdapter', 'ViTCoMer')
HEADS = {'segmentation': 'decode_head.conv_seg.bias', 'detection': 'rpn_head.rpn_cls.bias'}


def recognise(method, task, *, prefix='backbone.', **options):
    """With a head where the backbone has a prefix."""
    state = released_state(method, task, **options)
    file = {f'{prefix}{name}': tensor for name, tensor in state.items()}
    if 'backbone.' in prefix:
        file[prefix.replace('backbone.', '') + HEADS[task]] = torch.ones(3)
    return recognise_released(file)


def build(released, *, window=None, init_values=1.0, **vit):
    """Ours, by the settings that the file tells; the heads of the ViT show in no shape."""
    settings = released.settings
    kwargs = {**settings['vit']['model_kwargs'], 'num_heads': VIT_HEADS}
    kwargs |= {} if released.is_beit else {'init_values': init_values}
    vit = {**settings['vit'], 'window_size': window, 'model_kwargs': kwargs, **vit}
    vit |= {'global_blocks': [3]} if window == WINDOW else {}
    return MODELS.build({**settings, 'vit': vit}).eval()


def load(model, released):
    state, report = released.plan(model.state_dict(), 'file')
    model.load_state_dict(state, strict=True)
    return report


@torch.no_grad()
def outputs(model):
    return model(image())


@pytest.mark.parametrize('window', [None, WINDOW])
@pytest.mark.parametrize('task', HEADS)
@pytest.mark.parametrize('method', METHODS)
def test_same_maps_as_the_release(method, task, window):
    released = recognise(method, task)
    model = build(released, window=window)
    load(model, released)
    compare(outputs(model), RECORDED[f'{method}/{task}/{window or "off"}'])


def compare(maps, recorded):
    for ours, theirs in zip(maps, recorded, strict=True):
        assert list(ours.shape) == theirs['shape']
        values = ours.flatten()[:: ours.numel() // 12][:12]
        torch.testing.assert_close(values, torch.tensor(theirs['values']), atol=2e-5, rtol=0)
        assert ours.mean().item() == pytest.approx(theirs['mean'], abs=1e-5)
        assert ours.std().item() == pytest.approx(theirs['std'], abs=1e-5)


@pytest.mark.parametrize(
    ('variant', 'task'),
    [
        ('light', 'segmentation'),
        ('MAE', 'detection'),
        ('BEiT', 'segmentation'),
        ('BEiT', 'detection'),
    ],
)
def test_same_maps_as_the_release_s_variants(variant, task):
    options = {'variant': variant, 'layer_scale': variant != 'MAE'}
    released = recognise('ViTAdapter', task, **options)
    options = {'init_values': 1.0 if options['layer_scale'] else None}
    if variant == 'BEiT':
        options['window'] = released.settings['vit'].get('window_size')
    model = build(released, **options)
    report = load(model, released)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    with torch.no_grad():
        maps = model(square() if (variant, task) == ('BEiT', 'segmentation') else image())
    compare(maps, RECORDED[f'ViTAdapter, {variant}/{task}/off'])


def test_a_light_backbone_alone_wants_no_vit_maps():
    alone = recognise('ViTAdapter', 'segmentation', variant='light', prefix='')
    assert alone.settings['vit_feature_source'] == 'none'
    report = load(build(alone), alone)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})


def test_what_variants_want_is_told():
    light = recognise('ViTAdapter', 'segmentation', variant='light').settings
    assert (light['type'], light['cffn_ratio']) == ('LightViTAdapter', 0)
    assert (light['interaction_indexes'], light['vit_feature_source']) == ([(0, 3)], 'none')
    mae = recognise('ViTAdapter', 'detection', variant='MAE', layer_scale=False).settings
    assert (mae['type'], mae['vit_feature_source']) == ('LightViTAdapter', 'last')
    assert 'interaction_indexes' not in mae
    assert 'cffn_ratio' not in mae
    beit = recognise('ViTAdapter', 'segmentation', variant='BEiT')
    assert beit.settings['vit'] == {
        'type': 'TimmViT',
        'model_name': 'beit_base_patch16_224',
        'model_kwargs': {'img_size': 64, 'embed_dim': 32, 'depth': 4, 'num_heads': 2},
    }
    assert 'segmentation model on BEiT' in str(beit)
    beit = recognise('ViTAdapter', 'detection', variant='BEiT')
    assert beit.settings['vit']['type'] == 'ReleasedTimmViT'
    assert beit.settings['vit']['window_size'] == [2, 3, 4, 7]
    assert 'detection model on BEiT' in str(beit)
    assert 'windows [2, 3, 4, 7]' in str(beit)


@pytest.mark.parametrize(
    ('added', 'message'),
    [
        ({'layers.0.self_attn.in_proj.weight': torch.ones(3, 3)}, 'is on Uni-Perceiver'),
        ({}, 'has no positions'),
    ],
)
def test_variants_that_nothing_here_runs_are_refused(added, message):
    state = released_state('ViTAdapter', 'segmentation') | added
    del state['pos_embed']
    with pytest.raises(ValueError, match=rf'released ViTAdapter {message}: supported are'):
        recognise_released({f'backbone.{name}': t for name, t in state.items()})


@pytest.mark.parametrize('prefix', ['', 'backbone.', 'module.', 'module.backbone.'])
@pytest.mark.parametrize('method', METHODS)
def test_recognised_under_every_prefix(method, prefix):
    released = recognise(method, 'segmentation', prefix=prefix)
    assert (released.method, released.prefix) == (method, prefix)
    whole = 'backbone.' in prefix
    assert list(released.others) == [HEADS['segmentation']] * whole
    report = load(build(released), released)
    assert (report.missing, report.unexpected, report.mismatched) == ([], [], {})
    assert report.matched == 1
    assert report.outside == whole
    assert f'released {method}, {"segmentation model" if whole else "backbone"}' in str(report)
    assert "cls token's position" in str(report)


def test_a_backbone_alone_is_of_no_task():
    released = recognise('ViTAdapter', 'segmentation', prefix='')
    assert released.task is None
    assert 'vit_feature_source' not in released.settings


@pytest.mark.parametrize(('task', 'source'), [('segmentation', 'stages'), ('detection', 'last')])
def test_settings_are_told_by_names_and_shapes(task, source):
    settings = recognise('ViTAdapter', task).settings
    assert settings['vit_feature_source'] == source
    assert (settings['deform_num_heads'], settings['deform_ratio']) == (2, 0.5)
    assert settings['conv_inplane'] == 8
    assert settings['vit'].get('window_size') == (14 if task == 'detection' else None)
    assert settings['vit']['model_kwargs'] == {
        'init_values': 1.0,
        'img_size': GRID * 16,
        'embed_dim': 32,
        'depth': 4,
        'num_heads': 1,
    }


@pytest.mark.parametrize(('task', 'ratio'), [('segmentation', 2.0), ('detection', 0.5)])
def test_the_width_of_vit_comer_s_convolutions(task, ratio):
    settings = recognise('ViTCoMer', task).settings
    assert (settings['deform_num_heads'], settings['mrfp_ratio']) == (2, ratio)


def test_published_sizes_need_no_shapes():
    state = released_state('ViTAdapter', 'segmentation')
    state['level_embed'] = torch.zeros(3, 768)
    state['pos_embed'] = torch.zeros(1, 197, 768)
    vit = recognise_released(state).settings['vit']
    assert vit['model_name'] == 'deit_base_patch16_224'
    assert vit['model_kwargs'] == {'init_values': 1.0}


@pytest.mark.parametrize('window', [None, WINDOW])
def test_layer_scale_is_folded_where_the_vit_has_none(window):
    released = recognise('ViTAdapter', 'segmentation')
    scaled, plain = build(released, window=window), build(released, window=window, init_values=None)
    load(scaled, released)
    report = load(plain, released)
    assert not any('ls1' in name for name in plain.state_dict())
    for a, b in zip(outputs(plain), outputs(scaled), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=0)
    assert 'gamma1 into attn.proj' in str(report)
    assert report.missing == report.unexpected == []


def test_layer_scale_of_one_is_added_where_the_file_has_none():
    """The releases on MAE weights have none."""
    released = recognise('ViTAdapter', 'detection', layer_scale=False)
    plain, scaled = build(released, init_values=None), build(released, init_values=0.5)
    load(plain, released)
    report = load(scaled, released)
    for a, b in zip(outputs(plain), outputs(scaled), strict=True):
        assert torch.equal(a, b)
    assert 'LayerScale of 1 added' in str(report)
    assert 'init_values' not in released.settings['vit']['model_kwargs']


def test_loading_leaves_the_file_alone():
    released = recognise('ViTAdapter', 'segmentation')
    before = {name: t.clone() for name, t in released.backbone.items()}
    load(build(released, init_values=None), released)
    assert before.keys() == released.backbone.keys()
    assert all(torch.equal(before[name], t) for name, t in released.backbone.items())


@pytest.mark.parametrize(
    ('setting', 'value', 'message'),
    [
        ('vit_feature_source', 'last', "vit_feature_source='last', but the release has 'stages'"),
        ('window_size', 14, 'vit.window_size=14, but the release has None'),
    ],
)
def test_settings_that_make_another_function_are_named(setting, value, message):
    released = recognise('ViTAdapter', 'segmentation')
    model = build(released)
    assert released.differences(model) == []
    setattr(model if setting == 'vit_feature_source' else model.vit, setting, value)
    assert released.differences(model) == [message]


def test_another_type_of_vit_is_named():
    released = recognise('ViTAdapter', 'segmentation')
    no_cls = {'class_token': False, 'global_pool': 'avg'}
    kwargs = {**released.settings['vit']['model_kwargs'], **no_cls}
    model = build(released, type='TimmViT', model_kwargs=kwargs)
    assert released.differences(model) == [
        "vit.type='TimmViT', but the release has 'ReleasedTimmViT'"
    ]


def test_other_files_are_not_taken_for_released():
    state = released_state('ViTAdapter', 'segmentation')
    model = build(recognise_released(state))
    assert recognise_released(model.state_dict()) is None
    assert recognise_released({k: t for k, t in state.items() if 'blocks' in k}) is None
    assert recognise_released({}) is None


def test_what_does_not_fit_is_told():
    released = recognise('ViTAdapter', 'segmentation')
    model = build(released)
    with_cls = {**model.state_dict(), 'vit.model.cls_token': torch.zeros(1, 1, 32)}
    del with_cls['norm4.bias']
    with_cls['level_embed'] = torch.zeros(3, 16)
    _, report = released.plan(with_cls, 'file')
    assert report.missing == ['vit.model.cls_token']
    assert report.unexpected == ['norm4.bias']
    assert report.mismatched == {'level_embed': ((3, 32), (3, 16))}
    assert report.matched < 1


@pytest.mark.parametrize('init_values', [None, 1.0])
@pytest.mark.parametrize('method', METHODS)
def test_the_vit_alone(method, init_values):
    """`vit.checkpoint` takes the ViT out of a released file."""
    released = recognise(method, 'segmentation')
    whole = build(released, init_values=init_values)
    load(whole, released)
    file = {f'backbone.{name}': t for name, t in released.backbone.items()}
    file['decode_head.conv_seg.weight'] = torch.ones(3, 32)
    vit = build(released, init_values=init_values).vit.model
    report = load_vit_weights(vit, {'state_dict': file, 'meta': {}}, antialias=False)
    assert_complete(report)
    assert report.outside == len(file) - len(released.vit_names)
    assert ('folded' in str(report)) == (init_values is None)
    for name, tensor in whole.vit.model.state_dict().items():
        assert torch.equal(vit.state_dict()[name], tensor), name


def test_the_vit_alone_needs_a_model_without_cls_token():
    state = released_state('ViTAdapter', 'segmentation')
    vit = MODELS.build(
        {
            'type': 'TimmViT',
            'model_name': 'vit_tiny_patch16_224',
            'model_kwargs': {'embed_dim': 32, 'depth': 4, 'num_heads': 2, 'init_values': 1.0},
        }
    )
    with pytest.raises(CheckpointMismatchError, match=r"cls_token.*vit\.type='ReleasedTimmViT'"):
        load_vit_weights(vit.model, state)
