"""State dicts of the transformers library load into timm's models and compute the same.

Parity with the library itself is in `benchmarks/parity/huggingface.py`, as importing it slows
every import of mmengine. Here timm's weights are written under its names, of both generations, and
must come back unchanged.
"""

import json
import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from small_vits import assert_complete, assert_same, randomise

from vit_dense.backbones import TimmViT
from vit_dense.weights import CheckpointMismatchError, CheckpointReadError, load_vit_weights
from vit_dense.weights.identify import name_layout

KWARGS = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'img_size': 64, 'patch_size': 16}
MODELS = {
    'vit': ('vit_tiny_patch16_224', {}),
    'dinov2': ('vit_small_patch14_dinov2', {'init_values': 1.0}),
    'dinov2 swiglu': ('vit_giant_patch14_dinov2', {'init_values': 1.0}),
    'dinov2 registers': ('vit_small_patch14_reg4_dinov2', {'init_values': 1.0}),
    'dinov3': ('vit_small_patch16_dinov3_qkvb', {}),
    'dinov3 gated': ('vit_small_plus_patch16_dinov3_qkvb', {}),
}
OLD, NEW = 4, 5  # major versions of the library, which differ in names


def build(name):
    model, extra = MODELS[name]
    kwargs = {k: v for k, v in KWARGS.items() if k != 'img_size' or 'dinov3' not in name}
    return timm.create_model(model, num_classes=0, **kwargs, **extra)


def theirs(model, name, version):
    """The weights of a timm model under the names of transformers."""
    state = dict(model.state_dict())
    out = {'embeddings.cls_token': state.pop('cls_token')}
    registers = state.pop('reg_token', None)
    if registers is not None:
        out['embeddings.register_tokens'] = registers
    if 'dinov3' in name:
        out['embeddings.mask_token'] = torch.zeros(1, 1, 48)
    else:
        positions = state.pop('pos_embed')
        if registers is not None:  # the position of the cls token, which timm adds to the token
            out['embeddings.cls_token'] = out['embeddings.cls_token'] - 1
            positions = torch.cat((torch.ones(1, 1, 48), positions), dim=1)
        out['embeddings.position_embeddings'] = positions
    if 'dinov2' in name:
        out['embeddings.mask_token'] = torch.zeros(1, 48)
    patch = 'embeddings.patch_embeddings.' + ('' if 'dinov3' in name else 'projection.')
    block = {('vit', NEW): 'layers'}.get((name, version), 'encoder.layer')
    block = {OLD: 'layer', NEW: 'model.layer'}[version] if 'dinov3' in name else block
    attention = 'attention.attention.' if version == OLD and 'dinov3' not in name else 'attention.'
    q, k, v = (
        ('query', 'key', 'value') if 'attention.a' in attention else ('q_proj', 'k_proj', 'v_proj')
    )
    proj = 'attention.output.dense' if 'attention.a' in attention else 'attention.o_proj'
    for key, tensor in state.items():
        if key.endswith(('attn.qkv.weight', 'attn.qkv.bias')):
            start, kind = re.fullmatch(r'blocks\.(\d+)\.attn\.qkv\.(\w+)', key).groups()
            for part, piece in zip((q, k, v), tensor.chunk(3), strict=True):
                out[f'{block}.{start}.{attention}{part}.{kind}'] = piece.clone()
            continue
        if 'swiglu' in name and '.mlp.fc1.' in key and version == NEW:
            gate, value = tensor.chunk(2)
            stem, kind = key.split('.mlp.fc1.')
            stem = stem.replace('blocks', block)
            out[f'{stem}.mlp.gate_proj.{kind}'] = gate.clone()
            out[f'{stem}.mlp.up_proj.{kind}'] = value.clone()
            continue
        rules = [
            (r'^patch_embed\.proj\.', patch),
            (r'^norm\.', 'norm.' if 'dinov3' in name else 'layernorm.'),
            (r'\.(?:ls|gamma_)([12])(?:\.gamma)?$', r'.layer_scale\1.lambda1'),
            (r'\.attn\.proj\.', f'.{proj}.'),
            (r'\.attn\.q_bias$', '.attention.q_proj.bias'),
            (r'\.attn\.v_bias$', '.attention.v_proj.bias'),
        ]
        if name == 'vit':
            rules += [(r'\.norm1\.', '.layernorm_before.'), (r'\.norm2\.', '.layernorm_after.')]
            if version == OLD:
                rules += [
                    (r'\.mlp\.fc1\.', '.intermediate.dense.'),
                    (r'\.mlp\.fc2\.', '.output.dense.'),
                ]
        if 'swiglu' in name and version == OLD:
            rules += [(r'\.mlp\.fc1\.', '.mlp.weights_in.'), (r'\.mlp\.fc2\.', '.mlp.weights_out.')]
        elif 'swiglu' in name:
            rules += [(r'\.mlp\.fc2\.', '.mlp.down_proj.')]
        if 'gated' in name:
            rules += [
                (r'fc1_g\.', 'gate_proj.'),
                (r'fc1_x\.', 'up_proj.'),
                (r'mlp\.fc2\.', 'mlp.down_proj.'),
            ]
        elif 'dinov3' in name:
            rules += [(r'mlp\.fc1\.', 'mlp.up_proj.'), (r'mlp\.fc2\.', 'mlp.down_proj.')]
        rules += [(r'^blocks\.', f'{block}.')]
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)
        out[key] = tensor
    return {key: tensor.contiguous() for key, tensor in out.items()}


@pytest.mark.parametrize('version', [OLD, NEW])
@pytest.mark.parametrize('name', MODELS)
def test_the_weights_come_back(name, version):
    source = randomise(build(name))
    state = theirs(source, name, version)
    assert not any(key.startswith('blocks.') for key in state)
    model = build(name)
    report = load_vit_weights(model, {f'dinov2.{key}': t for key, t in state.items()})
    assert_complete(report)
    assert report.recognised.startswith("Hugging Face's ViT")
    expected = source.state_dict()
    if name == 'dinov2 registers':  # rounded once more
        expected['cls_token'] = expected['cls_token'] - 1 + 1
    assert_same(model, expected)


def test_biases_that_the_model_goes_without_are_refused():
    source = randomise(build('dinov3'))
    model = timm.create_model(
        'vit_small_patch16_dinov3', num_classes=0, embed_dim=48, depth=2, num_heads=3
    )
    state = theirs(source, 'dinov3', NEW)
    message = r'differ in blocks\.0\.attn\.qkv\.bias.*set model_kwargs=dict\(qkv_bias=True\)'
    with pytest.raises(CheckpointMismatchError, match=message):
        load_vit_weights(model, state)
    kwargs = {'embed_dim': 48, 'depth': 2, 'num_heads': 3, 'qkv_bias': True}
    advised = timm.create_model('vit_small_patch16_dinov3', num_classes=0, **kwargs)
    assert_complete(load_vit_weights(advised, state))
    state = {k: t * (not k.endswith(('q_proj.bias', 'v_proj.bias'))) for k, t in state.items()}
    assert_complete(load_vit_weights(model, state))


@pytest.mark.parametrize('lost', ['value.weight', 'query.bias'])
def test_a_file_that_lacks_a_projection_is_refused(lost):
    source = randomise(build('vit'))
    state = theirs(source, 'vit', OLD)
    del state[f'encoder.layer.1.attention.attention.{lost}']
    with pytest.raises(CheckpointMismatchError, match=r'blocks\.1\.attn\.qkv'):
        load_vit_weights(build('vit'), state)


def test_tensors_of_other_shapes_than_their_names_promise_are_refused():
    state = theirs(randomise(build('vit')), 'vit', OLD)
    narrow = {'encoder.layer.1.attention.attention.value.weight': torch.zeros(48, 47)}
    google = {'embedding/kernel': torch.zeros(16, 48)}
    for content in (state | narrow, google, {'blocks.0.norm1.weight': torch.tensor(1.0)}):
        with pytest.raises(CheckpointMismatchError, match='does not fit'):
            load_vit_weights(build('vit'), content)


def test_a_folder_of_several_files_with_an_index(tmp_path):
    source = randomise(build('dinov2'))
    items = list(theirs(source, 'dinov2', OLD).items())
    files = {'model-1.safetensors': dict(items[::2]), 'model-2.safetensors': dict(items[1::2])}
    for file, tensors in files.items():
        save_file(tensors, tmp_path / file)
    index = {'metadata': {}, 'weight_map': {k: file for file, t in files.items() for k in t}}
    path = tmp_path / 'model.safetensors.index.json'
    path.write_text(json.dumps(index))
    for checkpoint in (tmp_path, path):
        vit = TimmViT(
            MODELS['dinov2'][0],
            checkpoint=str(checkpoint),
            final_norm=True,
            model_kwargs=KWARGS | {'init_values': 1.0},
        )
        vit.init_weights()
        assert_same(vit.model, source.state_dict())
    index['weight_map']['lost.weight'] = 'model-1.safetensors'
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointReadError, match=r'1 tensors that its files lack \(lost\.weight'):
        load_vit_weights(build('dinov2'), tmp_path)
    index['weight_map']['lost.weight'] = 'model-3.safetensors'
    path.write_text(json.dumps(index))
    with pytest.raises(CheckpointReadError, match=r'1 of 3 files that are not beside it \(model-3'):
        load_vit_weights(build('dinov2'), tmp_path)
    for name in ('../elsewhere.safetensors', path.name, '..', 1):
        index['weight_map']['lost.weight'] = name
        path.write_text(json.dumps(index))
        with pytest.raises(CheckpointReadError, match=r'not a \.safetensors file beside it'):
            load_vit_weights(build('dinov2'), tmp_path)


@pytest.mark.parametrize('place', [5, '', '..', 'pickle.pth', 'model.safetensors.index.json'])
def test_an_index_names_nothing_but_files_beside_it(tmp_path, place):
    torch.save({'w': torch.zeros(1)}, tmp_path / 'pickle.pth')
    index = tmp_path / 'model.safetensors.index.json'
    index.write_text(json.dumps({'weight_map': {'w': place}}))
    with pytest.raises(CheckpointReadError, match=r'model\.safetensors\.index\.json'):
        load_vit_weights(build('vit'), tmp_path)


@pytest.mark.parametrize('lost', ['query.weight', 'value.weight', 'query.bias', 'value.bias'])
def test_a_lost_projection_is_refused(lost):
    state = theirs(randomise(build('vit')), 'vit', OLD)
    del state[f'encoder.layer.0.attention.attention.{lost}']
    with pytest.raises(CheckpointMismatchError, match=r'missing \(1\): blocks\.0\.attn\.qkv'):
        load_vit_weights(build('vit'), state)


@pytest.mark.parametrize('lost', ['gate_proj', 'up_proj'])
def test_a_lost_half_of_a_gate_is_refused(lost):
    state = theirs(randomise(build('dinov2 swiglu')), 'dinov2 swiglu', NEW)
    rest = {key: t for key, t in state.items() if f'0.mlp.{lost}' not in key}
    assert len(rest) == len(state) - 2
    with pytest.raises(CheckpointMismatchError, match=r'missing .*blocks\.0\.mlp\.fc1'):
        load_vit_weights(build('dinov2 swiglu'), rest)


def test_projections_of_other_shapes_are_refused():
    name = 'encoder.layer.0.attention.attention.query.weight'
    for shape in ((), (5, 7)):
        state = theirs(randomise(build('vit')), 'vit', OLD) | {name: torch.zeros(shape)}
        with pytest.raises(CheckpointMismatchError, match=r'blocks\.0\.attn\.qkv\.weight'):
            load_vit_weights(build('vit'), state)


def test_a_folder_of_one_file(tmp_path):
    source = randomise(build('vit'))
    save_file(theirs(source, 'vit', OLD), tmp_path / 'model.safetensors')
    model = build('vit')
    load_vit_weights(model, tmp_path)
    assert_same(model, source.state_dict())


def test_other_networks_of_the_library_are_named():
    bert = ['embeddings.word_embeddings.weight', 'encoder.layer.0.attention.self.query.weight']
    assert name_layout(bert) == ''
    with pytest.raises(CheckpointMismatchError, match='another network of the transformers'):
        load_vit_weights(build('vit'), {name: torch.zeros(4, 4) for name in bert})
