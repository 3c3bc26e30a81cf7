"""Vision encoders out of language models' files, and TNT's first names."""

import re

import pytest
import timm
import torch
from families import small_kwargs

from vit_dense.backbones import TimmViT
from vit_dense.backbones.families import find_family
from vit_dense.weights import CheckpointMismatchError, load_vit_weights

LANGUAGE = {'model.language_model.layers.0.mlp.gate_proj.weight': torch.zeros(8, 4)}


def encoder_state(name: str, **kwargs) -> dict[str, torch.Tensor]:
    """Random weights under timm's names of the encoder."""
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3, **small_kwargs(name), **kwargs)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    return find_family(name).trunk(model).state_dict()


def renamed(state: dict, rules: dict[str, str], prefix: str) -> dict:
    out = {}
    for name, tensor in state.items():
        for pattern, replacement in rules.items():
            name = re.sub(pattern, replacement, name)
        out[prefix + name] = tensor
    return out


def as_deepseek_s(state: dict) -> dict:
    """Attention and MLP under their names, patches by a linear layer, and the norm of the LLM."""
    rules = {r'attn\.qkv': 'attn.wqkv', r'attn\.proj': 'attn.wo', r'mlp\.fc': 'mlp.w'}
    out = renamed(state, rules, 'vision.')
    out['vision.patch_embed.proj.weight'] = out['vision.patch_embed.proj.weight'].flatten(1)
    return out | {'norm.weight': torch.zeros(7), 'aligner.w1.weight': torch.zeros(2, 2)} | LANGUAGE


def as_qwen_s(state: dict) -> dict:
    """A kernel over two frames, which stand for one image, and positions as an embedding."""
    out = renamed(state, {r'mlp\.fc': 'mlp.linear_fc'}, 'model.visual.')
    kernel = out['model.visual.patch_embed.proj.weight']
    out['model.visual.patch_embed.proj.weight'] = torch.stack((kernel / 4, kernel * 3 / 4), dim=2)
    out['model.visual.pos_embed.weight'] = out.pop('model.visual.pos_embed')[0]
    out['model.visual.merger.norm.weight'] = torch.zeros(2)
    return out | LANGUAGE


def as_gemma_s(state: dict) -> dict:
    """The names of its published implementation."""
    norms = {
        r'\.norm1\.': '.input_layernorm.',
        r'\.norm2\.': '.post_attention_layernorm.',
        r'\.norm3\.': '.pre_feedforward_layernorm.',
        r'\.norm4\.': '.post_feedforward_layernorm.',
    }
    rules = {
        '^patch_embed': 'patch_embedder',
        '^blocks': 'encoder.layers',
        r'\.attn\.': '.self_attn.',
    }
    return renamed(state, norms | rules, 'model.vision_tower.') | LANGUAGE


LAYOUTS = {
    'deepseek_vit_412m': as_deepseek_s,
    'gemma4_vit_167m': as_gemma_s,
    'qwen3_vit_88m_merge': as_qwen_s,
}


@pytest.mark.parametrize('name', LAYOUTS)
def test_the_authors_file_loads(name):
    state = encoder_state(name)
    vit = TimmViT(name, model_kwargs=small_kwargs(name))
    report = load_vit_weights(vit.model, LAYOUTS[name](state))
    assert (report.missing, report.mismatched) == ([], {})
    for key, value in vit.model.state_dict().items():
        torch.testing.assert_close(value, state[key], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('name', [*LAYOUTS, 'tnt_s_patch16_224'])
def test_a_file_that_lacks_a_block_s_part_is_refused(name):
    state = encoder_state(name)
    lost = next(key for key in state if key.startswith('blocks.2.') and 'norm' in key)
    vit = TimmViT(name, model_kwargs=small_kwargs(name))
    with pytest.raises(CheckpointMismatchError, match=re.escape(lost)):
        load_vit_weights(vit.model, {k: v for k, v in state.items() if k != lost})


def test_gemma_s_clamps_come_from_the_file():
    """They are buffers, and part of what the weights compute."""
    state = encoder_state('gemma4_vit_167m')
    state['blocks.1.mlp.up_proj.input_max'] = torch.tensor(0.25)
    vit = TimmViT('gemma4_vit_167m', model_kwargs=small_kwargs('gemma4_vit_167m'))
    load_vit_weights(vit.model, state)
    assert vit.model.blocks[1].mlp.up_proj.input_max == 0.25


def test_tnt_s_first_names_and_a_wrapper():
    """`outer` and `inner` stood for patches and pixels; and this package's own prefix."""
    name = 'tnt_s_legacy_patch16_224'
    state = encoder_state(name)
    rules = {
        'patch_pos': 'outer_pos',
        'pixel_embed': 'patch_embed',
        r'norm([12])_proj': r'proj_norm\1',
        r'\.norm_in\.': '.inner_norm1.',
        r'\.attn_in\.': '.inner_attn.',
        r'\.norm_mlp_in\.': '.inner_norm2.',
        r'\.mlp_in\.': '.inner_mlp.',
        r'\.norm_out\.': '.outer_norm1.',
        r'\.attn_out\.': '.outer_attn.',
        r'\.norm_mlp\.': '.outer_norm2.',
        r'\.mlp\.': '.outer_mlp.',
    }
    old = renamed(state, rules, '')
    old['inner_pos'] = old.pop('pixel_pos')
    for source in (old, {f'backbone.vit.model.{key}': x for key, x in state.items()}):
        vit = TimmViT(name, model_kwargs=small_kwargs(name))
        load_vit_weights(vit.model, source)
        for key, value in vit.model.state_dict().items():
            assert torch.equal(value, state[key]), key


def test_tnt_s_positions_are_resized():
    name = 'tnt_s_patch16_224'
    state = encoder_state(name)
    vit = TimmViT(name, model_kwargs={**small_kwargs(name), 'img_size': 128})
    load_vit_weights(vit.model, state)
    expected = timm.layers.resample_abs_pos_embed(state['patch_pos'], new_size=[8, 8])
    torch.testing.assert_close(vit.model.patch_pos.data, expected)
