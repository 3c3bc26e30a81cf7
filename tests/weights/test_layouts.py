"""Every layout a user may bring loads completely and bit for bit.

The files are written here as their authors name things, from a timm model with known values.
"""

import argparse
import re

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import save_file
from small_vits import assert_complete, assert_same
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva

from vit_dense.weights import CheckpointMismatchError, load_vit_weights


def renamed(state, *rules):
    """The state dict with regular expressions applied to its names, in order."""
    out = {}
    for name, tensor in state.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        out[name] = tensor.clone()
    return out


@pytest.fixture
def source(build):
    return build(seed=1).state_dict()


@pytest.fixture
def head():
    return {'head.weight': torch.ones(10, 32), 'head.bias': torch.ones(10)}


@pytest.mark.parametrize('suffix', ['.pth', '.pt', '.bin', '.safetensors'])
def test_plain_file(build, source, head, tmp_path, suffix):
    path = tmp_path / f'vit{suffix}'
    save_file(source | head, path) if suffix == '.safetensors' else torch.save(source | head, path)
    model = build()
    report = load_vit_weights(model, path)
    assert_same(model, source)
    assert_complete(report)
    assert report.resized == {}
    assert sorted(report.ignored) == ['head.bias', 'head.weight']
    assert str(path) in str(report)
    assert '100.0%' in str(report)


def test_timm_training_checkpoint_prefers_the_average(build, source, head, tmp_path):
    last = build(seed=2).state_dict()
    content = {
        'epoch': 3,
        'arch': 'vit',
        'metric': 71.5,
        'args': argparse.Namespace(lr=0.1),
        'state_dict': last | head,
        'state_dict_ema': {f'module.{name}': t for name, t in (source | head).items()},
        'optimizer': {'state': {}, 'param_groups': [{'lr': 0.1}]},
    }
    torch.save(content, tmp_path / 'last.pth.tar')
    model = build()
    report = load_vit_weights(model, tmp_path / 'last.pth.tar')
    assert_same(model, source)
    assert (report.section, report.prefix) == ('state_dict_ema', 'module.')

    content['state_dict_ema'] = None
    load_vit_weights(model, content)
    assert_same(model, last)


def test_deit_distilled(build):
    source = build(VisionTransformerDistilled, seed=1, global_pool='token').state_dict()
    heads = {'head_dist.weight': torch.ones(10, 32), 'head_dist.bias': torch.ones(10)}
    model = build(VisionTransformerDistilled, global_pool='token')
    report = load_vit_weights(model, {'model': source | heads})
    assert_same(model, source)
    assert_complete(report)

    plain = build()
    report = load_vit_weights(plain, {'model': source | heads})
    assert report.unexpected == ['dist_token']
    assert report.resized == {'pos_embed': 'prefix slots 2 -> 1'}
    assert torch.equal(plain.pos_embed[:, 1:], source['pos_embed'][:, 2:])


def test_deit3_layer_scale(build):
    source = build(seed=1, init_values=0.1, no_embed_class=True).state_dict()
    model = build(init_values=0.1, no_embed_class=True)
    file = renamed(source, (r'ls([12])\.gamma', r'gamma_\1'))
    assert_complete(load_vit_weights(model, {'model': file}))
    assert_same(model, source)
    released_adapter = renamed(source, (r'ls([12])\.gamma', r'gamma\1'))
    assert_complete(load_vit_weights(build(init_values=0.1, no_embed_class=True), released_adapter))


def test_dino_takes_the_teacher(build, source):
    student = build(seed=3).state_dict()
    file = {
        'student': {f'module.backbone.{name}': t for name, t in student.items()},
        'teacher': {f'backbone.{name}': t for name, t in source.items()}
        | {'head.mlp.0.weight': torch.ones(4, 32), 'head.last_layer.weight_v': torch.ones(4, 4)},
        'args': argparse.Namespace(arch='vit_small'),
    }
    model = build()
    report = load_vit_weights(model, file)
    assert_same(model, source)
    assert (report.section, report.prefix, report.outside) == ('teacher', 'backbone.', 2)


def dinov2(build, seed=0, registers=0):
    extra = {'reg_tokens': registers, 'no_embed_class': True} if registers else {}
    return build(seed=seed, patch_size=14, img_size=70, init_values=1e-5, **extra)


def test_dinov2(build):
    source = dinov2(build, seed=1).state_dict()
    model = dinov2(build)
    report = load_vit_weights(model, source | {'mask_token': torch.ones(1, 32)})
    assert_same(model, source)
    assert_complete(report)


def test_dinov2_registers_fold_the_cls_position(build):
    source = dinov2(build, seed=1, registers=4).state_dict()
    cls_position = torch.randn(1, 1, 32)
    file = source | {
        'register_tokens': source['reg_token'],
        'cls_token': source['cls_token'] - cls_position,
        'pos_embed': torch.cat([cls_position, source['pos_embed']], dim=1),
        'mask_token': torch.ones(1, 32),
    }
    del file['reg_token']
    model = dinov2(build, registers=4)
    assert_complete(load_vit_weights(model, file))
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, source[name], atol=1e-6, rtol=0)


def test_mae_pretraining(build, source):
    decoder = {
        'mask_token': torch.ones(1, 1, 16),
        'decoder_embed.weight': torch.ones(16, 32),
        'decoder_pos_embed': torch.ones(1, 17, 16),
        'decoder_blocks.0.norm1.weight': torch.ones(16),
        'decoder_norm.weight': torch.ones(16),
        'decoder_pred.bias': torch.ones(768),
    }
    model = build()
    report = load_vit_weights(model, {'model': source | decoder})
    assert_same(model, source)
    assert_complete(report)
    assert set(report.ignored) == decoder.keys() - {'mask_token'}  # timm's filter drops that one


def test_mae_finetuned_has_no_final_norm(build, source):
    file = renamed(source, (r'^norm\.', 'fc_norm.'))
    model = build()
    before = model.norm.weight.clone()
    with pytest.raises(CheckpointMismatchError, match='has no final norm: leave final_norm out'):
        load_vit_weights(model, {'model': file})
    report = load_vit_weights(model, {'model': file}, min_matched=0)
    assert report.missing == ['norm.weight', 'norm.bias']
    assert report.ignored == ['fc_norm.weight', 'fc_norm.bias']
    assert report.matched < 1
    assert torch.equal(model.norm.weight, before)
    assert 'missing (2): norm.weight, norm.bias' in str(report)
    report = load_vit_weights(build(final_norm=False), {'model': file})
    assert (report.missing, report.matched) == ([], 1)


def test_model_without_final_norm_leaves_it(build, source):
    model = build(final_norm=False)
    report = load_vit_weights(model, source)
    assert_complete(report)
    assert report.ignored == ['norm.weight', 'norm.bias']


BEIT = {'use_abs_pos_emb': False, 'use_rel_pos_bias': True, 'init_values': 0.1}


def test_beit(build):
    source = build(Beit, seed=1, **BEIT).state_dict()
    assert any(name.endswith('q_bias') for name in source)
    index = {f'blocks.{i}.attn.relative_position_index': torch.zeros(17, 17) for i in range(2)}
    model = build(Beit, **BEIT)
    assert_complete(load_vit_weights(model, {'module': source | index}))
    assert_same(model, source)


def test_beit_pretraining_shares_one_table(build):
    source = build(Beit, seed=1, **BEIT).state_dict()
    shared = torch.randn(7 * 7 + 3, 2)
    file = {k: v for k, v in source.items() if not k.endswith('bias_table')}
    file['rel_pos_bias.relative_position_bias_table'] = shared
    model = build(Beit, **BEIT)
    assert_complete(load_vit_weights(model, {'model': file}))
    for block in model.blocks:
        assert torch.equal(block.attn.relative_position_bias_table, shared)


EVA02 = {
    'qkv_fused': False,
    'swiglu_mlp': True,
    'scale_mlp': True,
    'use_rot_pos_emb': True,
    'mlp_ratio': 4 * 2 / 3,
}


def test_eva02(build):
    source = build(Eva, seed=1, **EVA02).state_dict()
    file = renamed(
        source,
        (r'mlp\.norm', 'mlp.ffn_ln'),
        (r'mlp\.fc1_g', 'mlp.w1'),
        (r'mlp\.fc1_x', 'mlp.w2'),
        (r'mlp\.fc2', 'mlp.w3'),
        (r'q_proj\.bias', 'q_bias'),
        (r'v_proj\.bias', 'v_bias'),
    )
    assert file.keys() != source.keys()
    extra = {'rope.freqs_cos': torch.ones(16, 16), 'head.weight': torch.ones(10, 32)}
    model = build(Eva, **EVA02)
    assert_complete(load_vit_weights(model, {'module': file | extra}))
    assert_same(model, source)


def test_eva_pretraining_keeps_its_final_norm(build):
    source = build(Eva, seed=1, global_pool='token', **EVA02).state_dict()
    assert 'norm.weight' in source
    file = source | {'mask_token': torch.ones(1, 1, 32), 'lm_head.weight': torch.ones(8, 32)}
    model = build(Eva, global_pool='token', **EVA02)
    assert_complete(load_vit_weights(model, file))
    assert_same(model, source)


def test_openai_clip(build):
    source = build(seed=1, pre_norm=True).state_dict()
    file = renamed(
        source,
        (r'^patch_embed\.proj', 'conv1'),
        (r'^pos_embed', 'positional_embedding'),
        (r'^cls_token', 'class_embedding'),
        (r'^norm_pre', 'ln_pre'),
        (r'^norm\.', 'ln_post.'),
        (r'norm([12])', r'ln_\1'),
        (r'qkv\.', 'in_proj_'),
        (r'attn\.proj', 'attn.out_proj'),
        (r'mlp\.fc1', 'mlp.c_fc'),
        (r'mlp\.fc2', 'mlp.c_proj'),
        (r'^blocks', 'transformer.resblocks'),
        (r'^', 'visual.'),
    )
    file['visual.class_embedding'] = file['visual.class_embedding'][0, 0]
    file['visual.positional_embedding'] = file['visual.positional_embedding'][0]
    file['visual.proj'] = torch.ones(32, 8)
    file['text_projection'] = torch.ones(8, 8)
    file['transformer.resblocks.0.ln_1.weight'] = torch.ones(8)
    model = build(pre_norm=True)
    report = load_vit_weights(model, file)
    assert_same(model, source)
    assert_complete(report)


def test_open_clip_with_timm_trunk(build, source):
    file = {f'visual.trunk.{name}': t for name, t in source.items()}
    file |= {'text.transformer.ln.weight': torch.ones(8), 'visual.head.proj.weight': torch.ones(8)}
    model = build()
    report = load_vit_weights(model, file)
    assert_same(model, source)
    assert_complete(report)
    assert report.prefix == 'visual.trunk.'


@pytest.mark.parametrize('dialect', ['mmpretrain', 'mmseg'])
def test_openmmlab(build, source, dialect):
    norm = 'ln' if dialect == 'mmpretrain' else 'norm'
    qkv = r'attn.qkv.' if dialect == 'mmpretrain' else r'attn.attn.in_proj_'
    proj = 'attn.proj' if dialect == 'mmpretrain' else 'attn.attn.out_proj'
    file = renamed(
        source,
        (r'norm([12])', rf'{norm}\1'),
        (r'^norm\.', f'{norm}1.'),
        (r'attn\.qkv\.', qkv),
        (r'attn\.proj', proj),
        (r'mlp\.fc1', 'ffn.layers.0.0'),
        (r'mlp\.fc2', 'ffn.layers.1'),
        (r'patch_embed\.proj', 'patch_embed.projection'),
        (r'^blocks', 'layers'),
        (r'^', 'backbone.'),
    )
    file['head.layers.head.weight'] = torch.ones(10, 32)
    model = build()
    report = load_vit_weights(model, {'meta': {}, 'state_dict': file})
    assert_same(model, source)
    assert_complete(report)


def test_own_checkpoint(tmp_path):
    config = {
        'type': 'ViTAdapter',
        'deform_num_heads': 4,
        'vit': {'type': 'TimmViT', 'model_name': 'test_vit'},
    }
    adapter = MODELS.build(config)
    file = {f'backbone.{name}': t for name, t in adapter.state_dict().items()}
    file['decode_head.conv_seg.weight'] = torch.ones(3, 8, 1, 1)
    torch.save({'meta': {'epoch': 1}, 'state_dict': file}, tmp_path / 'iter_4.pth')
    model = MODELS.build(config['vit']).model
    report = load_vit_weights(model, tmp_path / 'iter_4.pth')
    assert_same(model, adapter.vit.model.state_dict())
    assert report.prefix == 'backbone.vit.model.'
    assert report.outside == len(file) - len(model.state_dict())


def google_arrays(state, big_vision=False):
    """A timm state dict in Google's layout, with 2 heads of 16 channels."""
    mha, mlp, norm2 = (0, 0, 1) if big_vision else (1, 3, 2)
    out = {
        'embedding/kernel': state['patch_embed.proj.weight'].permute(2, 3, 1, 0),
        'embedding/bias': state['patch_embed.proj.bias'],
        'cls': state['cls_token'],
        'Transformer/encoder_norm/scale': state['norm.weight'],
        'Transformer/encoder_norm/bias': state['norm.bias'],
        'pos_embedding' if big_vision else 'Transformer/posembed_input/pos_embedding': state[
            'pos_embed'
        ],
        'head/kernel': torch.ones(32, 10),
        'head/bias': torch.ones(10),
        'pre_logits/kernel': torch.ones(32, 32),
    }
    for i in range(2):
        block, theirs = f'blocks.{i}', f'Transformer/encoderblock_{i}'
        for ours, number in (('norm1', 0), ('norm2', norm2)):
            out[f'{theirs}/LayerNorm_{number}/scale'] = state[f'{block}.{ours}.weight']
            out[f'{theirs}/LayerNorm_{number}/bias'] = state[f'{block}.{ours}.bias']
        attn = f'{theirs}/MultiHeadDotProductAttention_{mha}'
        for part, weight, bias in zip(
            ('query', 'key', 'value'),
            state[f'{block}.attn.qkv.weight'].chunk(3),
            state[f'{block}.attn.qkv.bias'].chunk(3),
            strict=True,
        ):
            out[f'{attn}/{part}/kernel'] = weight.T.reshape(32, 2, 16)
            out[f'{attn}/{part}/bias'] = bias.reshape(2, 16)
        out[f'{attn}/out/kernel'] = state[f'{block}.attn.proj.weight'].T.reshape(2, 16, 32)
        out[f'{attn}/out/bias'] = state[f'{block}.attn.proj.bias']
        for number in (0, 1):
            dense = f'{theirs}/MlpBlock_{mlp}/Dense_{number}'
            out[f'{dense}/kernel'] = state[f'{block}.mlp.fc{number + 1}.weight'].T
            out[f'{dense}/bias'] = state[f'{block}.mlp.fc{number + 1}.bias']
    return {name: tensor.numpy() for name, tensor in out.items()}


def test_augreg_npz(build, source, tmp_path):
    path = tmp_path / 'augreg.npz'
    np.savez(path, **google_arrays(source))
    model = build()
    report = load_vit_weights(model, path)
    assert_same(model, source)
    assert_complete(report)
    assert len(report.ignored) == 3
    by_timm = build(seed=5)
    by_timm.load_pretrained(str(path))
    assert_same(model, by_timm.state_dict())


@pytest.mark.parametrize('stacked', [False, True])
def test_big_vision_npz(build, source, tmp_path, stacked):
    arrays = google_arrays(source, big_vision=True)
    if stacked:
        marker = 'Transformer/encoderblock_'
        per_block = {k: v for k, v in arrays.items() if k.startswith(marker)}
        arrays = {k: v for k, v in arrays.items() if k not in per_block}
        for name in [k for k in per_block if k.startswith(f'{marker}0/')]:
            rest = name.split('/', 2)[2]
            pair = [per_block[f'{marker}{i}/{rest}'] for i in range(2)]
            arrays[f'Transformer/encoderblock/{rest}'] = np.stack(pair)
    path = tmp_path / 'big_vision.npz'
    np.savez(path, **{f'params/{name}': array for name, array in arrays.items()})
    model = build()
    assert_complete(load_vit_weights(model, path))
    assert_same(model, source)
