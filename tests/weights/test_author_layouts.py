"""Files of other authors load whole and compute what the authors' own code computed.

`recorded_layouts.json` holds the names and shapes of their files and a few values of what their
modules gave; `benchmarks.parity.layouts record` writes it. Weights and image follow from a formula.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.parity.values import image, value
from vit_dense.backbones import TimmViT
from vit_dense.weights import CheckpointMismatchError, load_vit_weights
from vit_dense.weights.convert import ConversionError, to_timm_names
from vit_dense.weights.identify import name_layout
from vit_dense.weights.names import bare_vit_names

RECORDED = json.loads(Path(__file__).with_name('recorded_layouts.json').read_text())


def unfold(names: dict[str, Any], depth: int) -> dict[str, list[int]]:
    """Names and shapes, block by block; the `~` of buffers stays."""
    flat = {}
    for name, shape in names.items():
        if isinstance(shape, list):
            flat[name] = shape
            continue
        for index, (part, sizes) in ((i, p) for i in range(depth) for p in shape.items()):
            mark = '~' * part.startswith('~')
            flat[mark + name.replace('*', str(index)) + part.lstrip('~')] = sizes
    return flat


def authors_state(case: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The weights under their authors' names."""
    width = case['kwargs']['embed_dim']
    state = {}
    for name, shape in unfold(case['names'], case['kwargs']['depth']).items():
        if name.startswith('~'):
            state[name[1:]] = torch.zeros(shape)
            continue
        state[name] = value(name, tuple(shape))
        if case.get('zero_keys') and name.endswith('qkv.bias'):
            state[name][width : 2 * width] = 0
    return state


def write(case: dict[str, Any], path: Path) -> Path:
    """The file, with what training scripts keep beside the weights."""
    state = authors_state(case)
    if path.suffix == '.npz':
        np.savez(path, **{name: tensor.numpy() for name, tensor in state.items()})
        return path
    beside = {'epoch': 3, 'optimizer': {'state': {}}, 'args': argparse.Namespace(lr=0.1)}
    section = case.get('section')
    torch.save({section: state, **beside} if section else state, path)
    return path


@pytest.mark.parametrize('name', RECORDED)
@torch.no_grad()
def test_same_tokens_as_the_authors(name, tmp_path):
    case = RECORDED[name]
    path = write(case, tmp_path / f'file{case.get("suffix", ".pth")}')
    normed = any(found['place'] == 'norm' for found in case['outputs'].values())
    checkpoint = {'path': str(path), **case.get('options', {})}
    vit = TimmViT(
        case['vit'], checkpoint=checkpoint, final_norm=normed, model_kwargs=case['kwargs']
    ).eval()
    vit.init_weights()
    for size, expected in case['outputs'].items():
        tokens, context = vit.embed(image(*map(int, size.split('x'))))
        tokens = vit.run_blocks(tokens, context, 0, vit.depth)
        tokens = vit.model.norm(tokens) if expected['place'] == 'norm' else tokens
        maps = vit.to_map(tokens, context)
        flat = maps.flatten(2).transpose(1, 2).flatten()
        values = flat[:: flat.numel() // 12][:12]
        # 1e-4, since timm's eps differs in SAM
        torch.testing.assert_close(values, torch.tensor(expected['values']), atol=1e-4, rtol=0)
    report = load_vit_weights(vit.model, path, **case.get('options', {}))
    assert (report.missing, report.unexpected, report.matched) == ([], [], 1)


def eva02(name='mmpretrain eva02 base'):
    case = RECORDED[name]
    vit = TimmViT(case['vit'], final_norm=not name.endswith('mean'), model_kwargs=case['kwargs'])
    return vit.model, authors_state(case)


@pytest.mark.parametrize('name', ['mmpretrain eva02 base', 'mmpretrain eva02 tiny mean'])
def test_a_bias_of_rotated_keys_is_never_dropped(name):
    """mmpretrain trains one, which the rotation makes matter and EVA-02 has not."""
    model, state = eva02(name)
    state['backbone.layers.1.attn.qkv.bias'][50] = 0.1
    with pytest.raises(
        CheckpointMismatchError, match=r'differ in blocks\.1\.attn\.k_(proj\.)?bias'
    ):
        load_vit_weights(model, state)


def test_another_rotation_is_refused():
    """What mmpretrain computes for a size of its own is not EVA-02's."""
    model, state = eva02()
    angles = torch.arange(16.0 * 16).reshape(16, 16).cos()
    state['backbone.rope.freqs_cos'] = angles
    with pytest.raises(CheckpointMismatchError, match='by two angles: mmpretrain trained'):
        load_vit_weights(model, state)
    with pytest.raises(ConversionError):
        to_timm_names(bare_vit_names(state), model, antialias=True)
    state['backbone.rope.freqs_cos'] = angles.repeat_interleave(2, dim=1)
    assert load_vit_weights(model, state).matched == 1


WRONG = (
    ('deit', 'vit_tiny_patch16_224', {'embed_dim': 96}, 'width 48 in the file and 96 in the model'),
    ('mmpretrain vit', 'vit_tiny_patch16_224', {'depth': 3}, 'depth 2 in the file and 3 in the'),
    ('dinov2 grouped blocks', 'vit_small_patch14_dinov2', {'depth': 2}, 'depth 4 in the file'),
    ('mmseg vit', 'vit_base_patch32_224', {}, 'patch_size differs (kernel 16x16 -> 32x32)'),
    ('augreg', 'vit_tiny_patch16_224', {'embed_dim': 96}, 'width 48 in the file'),
    ('big_vision attention pool', 'vit_tiny_patch16_224', {}, 'cls_token'),
    ('mae pretrain', 'beit_base_patch16_224', {}, 'a plain ViT of width 48, depth 2'),
    ('beit finetuned', 'vit_tiny_patch16_224', {}, 'a BEiT or EVA of width 48, depth 2'),
    ('eva02 base pretrain', 'vit_tiny_patch16_224', {}, 'an EVA-02 of width 48, depth 2'),
    ('mmpretrain eva02 base', 'vit_tiny_patch16_224', {}, 'an EVA-02 of width 48, depth 2'),
    ('dinov2 registers', 'vit_small_patch14_dinov2', {}, 'differ in reg_token'),
    ('dinov2', 'vit_tiny_patch16_224', {}, 'blocks.0.ls1.gamma'),
    ('sam', 'vit_tiny_patch16_224', {}, 'a Segment Anything encoder of width 48'),
)


@pytest.mark.parametrize(('name', 'vit', 'kwargs', 'message'), WRONG)
def test_files_of_another_network_are_told(name, vit, kwargs, message):
    kwargs = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'img_size': 64, **kwargs}
    kwargs |= {'img_size': 56} if 'patch14' in vit else {}
    model = TimmViT(vit, model_kwargs=kwargs).model
    with pytest.raises(CheckpointMismatchError) as caught:
        load_vit_weights(model, authors_state(RECORDED[name]), resize_patch=False)
    assert message in str(caught.value)


# by the beginning of the case's name
LABELS = {
    'augreg': "Google's arrays",
    'big_vision': "Google's arrays",
    'mmpretrain': "OpenMMLab's ViT",
    'mmseg': "OpenMMLab's ViT",
    'sam': 'Segment Anything',
    'vitdet': 'Segment Anything, or a ViTDet',
    'eva02 tiny': 'BEiT or EVA, or a small EVA-02',
    'eva02': 'EVA-02',
    'beit': 'BEiT or EVA',
    'mae finetuned': "timm's names",
    'mae': 'MAE, with its decoder',
    'dinov2': 'DINOv2',
    'dino': "timm's names",
    'deit distilled': 'a distilled DeiT',
    'deit3': 'DeiT III',
    'deit': "timm's names",
}


def label_of(name):
    """None for files that timm itself wrote."""
    return next((LABELS[start] for start in LABELS if name.startswith(start)), None)


@pytest.mark.parametrize('name', [name for name in RECORDED if label_of(name)])
def test_the_report_says_whose_layout_it_is(name):
    label = label_of(name)
    assert name_layout(authors_state(RECORDED[name])).startswith(label)


def test_other_networks_have_no_known_layout():
    assert name_layout(['layer1.0.conv1.weight', 'fc.weight']) == ''
