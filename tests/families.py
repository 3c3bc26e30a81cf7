"""One small model per timm family and peculiarity, for parametrised tests."""

from typing import Any

import pytest

# name -> (arguments of timm's model, patch, prefix tokens); narrow and shallow, to run in seconds
SMALL: dict[str, tuple[dict[str, Any], int, int]] = {
    'test_vit': ({'depth': 4}, 16, 1),
    'vit_tiny_patch16_224': ({}, 16, 1),  # AugReg, MAE and DINO share this architecture
    'vit_base_patch32_224': ({}, 32, 1),
    'vit_small_patch8_224': ({}, 8, 1),
    'vit_base_patch16_clip_224': ({}, 16, 1),  # norm before the blocks
    'vit_base_patch16_siglip_224': ({}, 16, 0),
    'vit_small_patch14_dinov2': ({'img_size': 224}, 14, 1),
    'vit_small_patch14_reg4_dinov2': ({'img_size': 224}, 14, 5),
    'deit_tiny_patch16_224': ({}, 16, 1),
    'deit_tiny_distilled_patch16_224': ({}, 16, 2),
    'deit3_small_patch16_224': ({}, 16, 1),
    'eva02_tiny_patch14_224': ({}, 14, 1),
    'vit_small_patch16_dinov3': ({}, 16, 5),
    'vit_small_patch16_rope_mixed_224': ({}, 16, 1),  # rotary frequencies by block and head
    'beit_base_patch16_224': ({}, 16, 1),
    'beitv2_base_patch16_224': ({}, 16, 1),
    'vit_relpos_small_patch16_224': ({}, 16, 0),  # a table in each block
    'vit_relpos_base_patch16_clsgap_224': ({}, 16, 1),
    'vit_srelpos_small_patch16_224': ({}, 16, 0),  # one MLP over distances, shared
    'vit_tiny_r_s16_p8_224': ({}, 32, 1),  # patches of a CNN's map
    'cait_xxs24_224': ({}, 16, 0),
    'naflexvit_base_patch16_gap': ({}, 16, 4),
    'samvit_base_patch16_224': ({}, 16, 0),
    'xcit_nano_12_p8_224': ({}, 8, 0),
    'vitamin_small_224': ({'embed_dim': 384, 'num_heads': 6}, 16, 0),  # its stem fixes the width
    'convit_tiny': ({'embed_dim': 16, 'local_up_to_layer': 2}, 16, 1),  # two kinds of blocks
    'tnt_s_legacy_patch16_224': ({}, 16, 1),
    'tnt_s_patch16_224': ({}, 16, 1),
    'deepseek_vit_412m': ({'embed_dim': 48}, 14, 0),
    'gemma4_vit_167m': ({'head_dim': 16, 'position_embedding_size': 64}, 16, 0),
    'qwen3_vit_88m_merge': ({'pos_embed_grid_size': 14}, 16, 0),
}
# blocks that cannot run in windows of ours
UNWINDOWED = {'samvit_base_patch16_224', 'xcit_nano_12_p8_224'}
# blocks that cannot run on some of the patches, and part of the reason
UNDROPPABLE = {
    'beit_base_patch16_224': 'relative position table',
    'beitv2_base_patch16_224': 'relative position table',
    'vit_relpos_small_patch16_224': 'relative position table',
    'vit_relpos_base_patch16_clsgap_224': 'relative position table',
    'vit_srelpos_small_patch16_224': 'relative position table',
    'vit_tiny_r_s16_p8_224': 'mixes neighbouring patches',
    'vitamin_small_224': 'mixes neighbouring patches',
    'samvit_base_patch16_224': 'windows',
    'xcit_nano_12_p8_224': 'convolutions',
    'convit_tiny': 'offsets between all tokens',
    'tnt_s_legacy_patch16_224': 'pixels of all patches',
    'tnt_s_patch16_224': 'pixels of all patches',
}
# without a final norm, some for the way they pool
UNNORMED = {
    'samvit_base_patch16_224',
    'gemma4_vit_167m',
    'qwen3_vit_88m_merge',
    'eva02_tiny_patch14_224',
    'beit_base_patch16_224',
    'beitv2_base_patch16_224',
    'vit_relpos_small_patch16_224',
    'vit_relpos_base_patch16_clsgap_224',
    'naflexvit_base_patch16_gap',
    'vitamin_small_224',
}
NARROW = {'embed_dim': 48, 'num_heads': 3, 'depth': 4}


def small_kwargs(name: str) -> dict[str, Any]:
    """Arguments that make the named model narrow and shallow."""
    if name == 'test_vit':
        return dict(SMALL[name][0])
    narrow = NARROW
    if name.startswith('tnt'):  # under other names, and its pixels fill the width
        narrow = {'embed_dim': 48, 'num_heads_outer': 3, 'depth': 4, 'inner_dim': 12}
    return {**narrow, **SMALL[name][0]}


every_family = pytest.mark.parametrize('name', SMALL)
every_windowed_family = pytest.mark.parametrize('name', [n for n in SMALL if n not in UNWINDOWED])
every_droppable_family = pytest.mark.parametrize('name', [n for n in SMALL if n not in UNDROPPABLE])
