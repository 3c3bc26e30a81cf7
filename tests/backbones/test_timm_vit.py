"""TimmViT against timm itself, per family."""

import sys
from itertools import product

import pytest
import timm
import torch
from families import SMALL, UNNORMED, every_family, every_windowed_family, small_kwargs

from vit_dense.backbones import TimmViT
from vit_dense.backbones.families import TokenContext
from vit_dense.backbones.windows import ImageDropPath

OWN_SIZE = ('beit', 'vit_relpos', 'vit_srelpos', 'cait', 'convit', 'tnt')
ANY_SIZE = (
    'samvit',
    'xcit',
    'naflexvit',
    'vit_tiny_r_s16',
    'vitamin',
    'deepseek',
    'gemma4',
    'qwen3',
)


def build(name: str, **kwargs) -> TimmViT:
    return TimmViT(name, model_kwargs=small_kwargs(name), **kwargs).eval()


def timm_twin(vit: TimmViT, name: str, **kwargs) -> torch.nn.Module:
    """timm's own model with the same weights, forward untouched."""
    twin = timm.create_model(name, num_classes=0, **small_kwargs(name), **kwargs).eval()
    vit.family.trunk(twin).load_state_dict(vit.model.state_dict(), strict=False)
    return twin


@every_family
def test_chunks_equal_timm_bit_for_bit(name):
    _, patch, prefix = SMALL[name]
    vit = build(name)
    assert (vit.patch_size, vit.num_prefix_tokens) == (patch, prefix)
    for parameter in vit.parameters():  # zero-initialised parts must take part in the comparison
        torch.nn.init.normal_(parameter, std=0.05)
    if name.startswith(OWN_SIZE):  # as timm builds them
        twin, size = timm_twin(vit, name), (224, 224)
    elif name.startswith(ANY_SIZE):
        options = {'dynamic_img_size': True} if name.startswith('vit') else {}
        twin, size = timm_twin(vit, name, **options), (patch * 4, patch * 6)
    else:
        twin = timm_twin(vit, name, dynamic_img_size=True, dynamic_img_pad=True)
        size = (patch * 3 + 5, patch * 5)
    image = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = twin.forward_intermediates(image, intermediates_only=True)
        tokens, context = vit.embed(image)
        assert tokens.shape[1] == prefix + context.grid[0] * context.grid[1]
        for start, stop in ((0, 1), (1, 3), (3, 4)):
            tokens = vit.run_blocks(tokens, context, start, stop)
            assert torch.equal(vit.to_map(tokens, context), expected[stop - 1])


@every_family
def test_no_parameter_is_unused(name):
    vit = build(name).train()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    tokens, context = vit.embed(torch.randn(2, 3, 64, 96))
    vit.run_blocks(tokens, context, 0, 4).square().sum().backward()
    silent = [n for n, p in vit.named_parameters() if p.grad is None or not p.grad.any()]
    # three rows of BEiT's tables belong to the cls token; a bias of keys cancels in the softmax
    assert [n for n in silent if 'k_bias' not in n] == []


@pytest.mark.parametrize('name', ['vit_relpos_small_patch16_224', 'vit_srelpos_small_patch16_224'])
def test_relative_positions_of_another_grid(name):
    """Against timm's own model of that size: the MLP's as they are, tables as we resize them."""
    vit = build(name)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    twin = timm.create_model(name, num_classes=0, img_size=(64, 96), **small_kwargs(name)).eval()
    state = vit.model.state_dict()
    for key in [k for k in state if k.endswith('relative_position_bias_table')]:
        maps = state[key].T.reshape(1, 3, 27, 27)
        maps = torch.nn.functional.interpolate(maps, size=(7, 11), mode='bicubic')
        state[key] = maps.reshape(3, 77).T
    twin.load_state_dict(state, strict=False)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = twin.forward_intermediates(image, intermediates_only=True)[-1]
        tokens, context = vit.embed(image)
        out = vit.to_map(vit.run_blocks(tokens, context, 0, 4), context)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('name', ['beit_base_patch16_224', 'beitv2_base_patch16_224'])
def test_beit_bias_of_another_grid(name):
    """Against timm's own resized model with the tables that our interpolation gives."""
    vit = build(name)
    for block in vit.model.blocks:
        torch.nn.init.normal_(block.attn.relative_position_bias_table)
    twin = timm.create_model(name, num_classes=0, img_size=(64, 96), **small_kwargs(name)).eval()
    state = vit.model.state_dict()
    for key in [k for k in state if k.endswith('relative_position_bias_table')]:
        table = state[key]
        maps = table[:-3].T.reshape(1, 3, 27, 27)
        maps = torch.nn.functional.interpolate(maps, size=(7, 11), mode='bicubic')
        state[key] = torch.cat((maps.reshape(3, 77).T, table[-3:]))
    twin.load_state_dict(state, strict=False)
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = twin.forward_intermediates(image, intermediates_only=True)[-1]
        tokens, context = vit.embed(image)
        out = vit.to_map(vit.run_blocks(tokens, context, 0, 4), context)
    torch.testing.assert_close(out, expected)


@every_windowed_family
def test_one_window_over_the_grid_is_global_attention(name):
    patch = SMALL[name][1]
    plain = build(name)
    windowed = build(name, window_size=4, global_blocks=(3,))
    windowed.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, patch * 4, patch * 4)
    with torch.no_grad():
        outs = []
        for vit in (plain, windowed):
            tokens, context = vit.embed(image)
            outs.append(vit.run_blocks(tokens, context, 0, 4))
    torch.testing.assert_close(outs[1], outs[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    'name', ['vit_base_patch16_siglip_224', 'test_vit', 'vit_small_patch16_dinov3',
             'eva02_tiny_patch14_224', 'vit_small_patch16_rope_mixed_224']
)  # fmt: skip
def test_windowed_block_equals_masked_attention(name):
    """A windowed block is a global one in which patches of other windows are masked.

    Prefix tokens are compared where there are none: in windows they see one window each.
    """
    patch, prefix = SMALL[name][1:]
    vit = build(name, window_size=3, global_blocks=(1, 2, 3))
    image = torch.randn(2, 3, patch * 5, patch * 7)
    tokens, context = vit.embed(image)
    rows, columns = torch.meshgrid(torch.arange(5) // 3, torch.arange(7) // 3, indexing='ij')
    window = (rows * 3 + columns).flatten()
    same = torch.ones(prefix + 35, prefix + 35, dtype=torch.bool)
    same[prefix:, prefix:] = window[:, None] == window[None]
    with torch.no_grad():
        out = vit.run_blocks(tokens, context, 0, 1)
        kwargs = first_block_kwargs(vit, context)
        expected = vit.model.blocks[0](tokens, attn_mask=same[None, None], **kwargs)
    torch.testing.assert_close(out[:, prefix:], expected[:, prefix:], rtol=1e-4, atol=1e-5)


@every_windowed_family
@pytest.mark.parametrize('grid', [(5, 7), (2, 3), (6, 4)])
def test_windows_at_the_edge_equal_padded_and_masked_ones(name, grid):
    """What ViTDet pads to whole windows runs in smaller ones here: prefix tokens see no padding."""
    patch, prefix = SMALL[name][1:]
    edge = 3
    vit = build(name, window_size=edge, global_blocks=(1, 2, 3))
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    tokens, context = vit.embed(torch.randn(2, 3, patch * grid[0], patch * grid[1]))
    places = torch.arange(grid[0] * grid[1]).view(grid)
    with torch.no_grad():
        out = vit.run_blocks(tokens, context, 0, 1)
        prefixes = []
        for top, left in product(range(0, grid[0], edge), range(0, grid[1], edge)):
            place = places[top : top + edge, left : left + edge]
            window = torch.cat((torch.arange(prefix), prefix + place.flatten()))
            expected = vit.model.blocks[0](
                tokens[:, window], **_whole_window(vit, context, place, edge)
            )
            torch.testing.assert_close(
                out[:, window[prefix:]], expected[:, prefix:], rtol=1e-4, atol=1e-5
            )
            prefixes.append(expected[:, :prefix])
    torch.testing.assert_close(out[:, :prefix], sum(prefixes) / len(prefixes), rtol=1e-4, atol=1e-5)


def first_block_kwargs(vit, context):
    given = vit.model, context, 0, None
    return vit.family.block_kwargs(*given) | vit.family.recomputed_kwargs(*given)


def _whole_window(vit, context, place, edge):
    """What the first block needs for one window, cut out of the whole grid's or window's."""
    kwargs = first_block_kwargs(vit, context)
    inside = place.flatten()
    if 'offsets' in kwargs:
        return {'offsets': kwargs['offsets'][:, inside[:, None], inside]}
    by_place = {k: x for k, x in kwargs.items() if k.startswith(('rope', 'pixels'))}
    if by_place and None not in by_place.values():
        return {k: x[..., inside, :] for k, x in by_place.items()}
    key = next((k for k in kwargs if k.startswith('shared_rel_pos')), None)
    if key is None:
        return kwargs
    bias = first_block_kwargs(vit, TokenContext((edge, edge)))[key]
    rows, columns = (torch.arange(size) for size in place.shape)
    prefix = torch.arange(vit.num_prefix_tokens)
    inside = torch.cat((prefix, len(prefix) + (rows[:, None] * edge + columns).flatten()))
    return {key: bias[..., inside, :][..., inside]}


def test_global_blocks_default_to_the_ends_of_quarters():
    assert TimmViT('vit_tiny_patch16_224', window_size=14).global_blocks == (2, 5, 8, 11)
    deep = TimmViT('test_vit', window_size=14, model_kwargs={'depth': 24})
    assert deep.global_blocks == (5, 11, 17, 23)


@pytest.mark.parametrize('drop_path_rate', [0.0, 0.7])
def test_checkpointing_changes_no_gradient(drop_path_rate):
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        vit = TimmViT(
            'test_vit',
            grad_checkpointing=checkpointing,
            window_size=3,
            drop_path_rate=drop_path_rate,
        ).train()
        tokens, context = vit.embed(torch.randn(1, 3, 64, 96))
        vit.run_blocks(tokens, context, 0, 6).square().sum().backward()
        gradients.append({n: p.grad for n, p in vit.named_parameters()})
        paths = [m for m in vit.modules() if isinstance(m, ImageDropPath)]
        assert len(paths) == (10 if drop_path_rate else 0), 'all blocks but the first'
        assert not any(path.drop_masks for path in paths), 'recomputation leaves nothing behind'
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize('name', ['cait_xxs24_224', 'convit_tiny', 'tnt_s_patch16_224',
                                  'gemma4_vit_167m', 'qwen3_vit_88m_merge'])  # fmt: skip
def test_checkpointing_changes_no_gradient_of_what_blocks_are_given(name):
    """Offsets, pixels and rotations are arguments of blocks, which recomputation must see again."""
    gradients = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        vit = build(name, grad_checkpointing=checkpointing, window_size=2, drop_path_rate=0.5)
        for parameter in vit.train().parameters():
            torch.nn.init.normal_(parameter, std=0.05)
        tokens, context = vit.embed(torch.randn(2, 3, 48, 80))
        vit.run_blocks(tokens, context, 0, 4).square().sum().backward()
        gradients.append({n: p.grad for n, p in vit.named_parameters()})
    assert all(grad is not None for grad in gradients[1].values())
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize('stages', [-1, 0, 2, 6])
def test_freezing(stages):
    vit = TimmViT('test_vit', frozen_stages=stages, drop_path_rate=0.5, final_norm=True)
    assert [b.training for b in vit.model.blocks] == [i >= stages for i in range(6)]
    vit.train()
    for name, layer in vit.layer_groups().items():
        frozen = stages == 6 or layer <= stages
        assert vit.get_parameter(name).requires_grad is not frozen, name
    assert [b.training for b in vit.model.blocks] == [i >= stages for i in range(6)]
    assert vit.model.norm.training is (stages != 6)
    assert vit.model.patch_embed.training is (stages < 0)
    tokens, context = vit.embed(torch.randn(2, 3, 64, 64))
    out = vit.run_blocks(tokens, context, 0, max(stages, 0))
    assert out.requires_grad is (stages < 0)  # frozen parts build no graph


def test_drop_path_rises_to_the_given_rate():
    vit = TimmViT('test_vit', drop_path_rate=0.5)
    rates = [getattr(block.drop_path1, 'drop_prob', 0.0) for block in vit.model.blocks]
    assert rates == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4, 0.5])


def test_grayscale_weights_and_other_patches():
    vit = TimmViT('test_vit', model_kwargs={'in_chans': 1, 'patch_size': 8})
    assert (vit.in_chans, vit.patch_size) == (1, 8)
    _, context = vit.embed(torch.randn(1, 1, 32, 44))
    assert context.grid == (4, 6)


def test_normalisation_is_timm_s():
    assert TimmViT('test_vit').mean == (0.5, 0.5, 0.5)
    dino = TimmViT(
        'vit_small_patch14_dinov2', model_kwargs=small_kwargs('vit_small_patch14_dinov2')
    )
    assert dino.mean == (0.485, 0.456, 0.406)


@every_family
def test_layer_groups_cover_every_parameter(name):
    vit = build(name, final_norm=name not in UNNORMED)
    groups = vit.layer_groups()
    assert groups.keys() == dict(vit.named_parameters()).keys()
    assert set(groups.values()) <= set(range(vit.depth + 2))
    assert all(
        layer == int(key.split('.')[2]) + 1
        for key, layer in groups.items()
        if key.startswith('model.blocks.')
    )
    stem = [k for k, layer in groups.items() if layer == 0]
    assert any('patch_embed' in k or 'embeds.proj' in k or 'pixel_embed' in k for k in stem)
    assert all('token' not in k or k in stem for k in groups)


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'model_name': 'vit_bas_patch16_224'}, r'nearest names: vit_base_patch'),
        ({'model_name': 'vit_base_patch16_224.augreg'}, r"no.* tag 'augreg'.*augreg_in21k"),
        ({'model_name': 'swin_tiny_patch4_window7_224'}, r'swin_transformer.*TimmPyramid'),
        ({'model_name': 'mixer_s32_224'}, 'timm.models.mlp_mixer.*one image size: it is neither'),
        ({'model_name': 'crossvit_9_240'}, 'two ViTs side by side.*neither an isotropic ViT'),
        ({'model_name': 'samvit_base_patch16', 'final_norm': True}, 'neck.*; leave final_norm out'),
        ({'model_name': 'qwen3_vit_88m', 'final_norm': True}, 'the encoder has none'),
        ({'model_name': 'resnet50'}, r'timm\.models\.resnet.*isotropic'),
        ({'model_name': 'test_vit', 'pretrained': True, 'checkpoint': 'a.pth'}, 'set one of them'),
        ({'model_name': 'test_vit', 'frozen_stages': 7}, r'allowed are -1.*to 6'),
        ({'model_name': 'test_vit', 'window_size': 0}, 'window_size=0: give tokens >= 1'),
        ({'model_name': 'samvit_base_patch16', 'window_size': 7}, 'windows of their own; leave'),
        ({'model_name': 'xcit_nano_12_p8_224', 'window_size': 7}, 'between channels'),
        ({'model_name': 'samvit_base_patch16', 'model_kwargs': {'use_rope': True, 'use_rel_pos':
          False}}, 'one image size; leave use_rope out'),
        ({'model_name': 'test_vit', 'global_blocks': (1,)}, 'without window_size'),
        ({'model_name': 'test_vit', 'window_size': 4, 'global_blocks': (6,)}, r'\[6\] are.*0\.\.5'),
        ({'model_name': 'hf-hub:someone/vit'}, 'that timm.list_models'),
        ({'model_name': 'test_vit', 'drop_path_rate': 1.5}, r'1\.5: give a share in \[0, 1\)'),
        ({'model_name': 'test_vit', 'checkpoint': {'min_matched': 0}}, r'dict\(path=\.\.\.\)'),
        ({'model_name': 'test_vit', 'checkpoint': {'path': 'a', 'strict': 0}}, 'min_matched'),
        ({'model_name': 'test_vit', 'checkpoint': {'path': None}}, 'path must name a file'),
        ({'model_name': 'test_vit', 'checkpoint': {'path': 5}}, 'path must name a file'),
        ({'model_name': 'test_vit', 'model_kwargs': {'patch_size': [16]}}, r'patch_size=\[16\]'),
        ({'model_name': 'test_vit', 'model_kwargs': {'in_chans': -1}}, 'could not build'),
        ({'model_name': 'test_vit', 'model_kwargs': {'num_heads': 0}}, 'could not build'),
        ({'model_name': 'test_vit', 'model_kwargs': {'num_classes': 3}}, 'num_classes'),
        ({'model_name': 'test_vit', 'model_kwargs': {'patch_drop_rate': 0.5}}, 'patch_drop_rate'),
        ({'model_name': 'test_vit', 'model_kwargs': {'dynamic_img_size': False}}, 'dynamic_img'),
        ({'model_name': 'test_vit', 'model_kwargs': {'colour': 3}}, 'could not build.*colour'),
        ({'model_name': 'test_vit', 'model_kwargs': {'patch_size': (8, 16)}}, '8x16 patches'),
    ],
)  # fmt: skip
def test_mistakes_end_in_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        TimmViT(**kwargs)


def test_checkpointing_spares_frozen_blocks_only(monkeypatch):
    seen = []
    module = sys.modules['vit_dense.backbones.timm_vit']
    run = module.run_checkpointed
    monkeypatch.setattr(
        module, 'run_checkpointed', lambda f, *a, **k: (seen.append(f.args[1]), run(f, *a, **k))[1]
    )
    vit = TimmViT('test_vit', frozen_stages=2, grad_checkpointing=True).train()
    tokens, context = vit.embed(torch.randn(1, 3, 64, 64))
    vit.run_blocks(tokens, context, 0, 6)
    assert seen == [2, 3, 4, 5]


def test_a_plain_vit_is_no_backbone():
    with pytest.raises(ValueError, match=r"wrap it in an adapter.*type='PlainViT'"):
        TimmViT('test_vit')(torch.zeros(1, 3, 64, 64))


def test_weights_that_failed_to_load_are_asked_for_again(tmp_path):
    path = tmp_path / 'vit.pth'
    vit = TimmViT('test_vit', checkpoint=str(path))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            vit.init_weights()
    torch.save(TimmViT('test_vit').model.state_dict(), path)
    vit.init_weights()
    torch.testing.assert_close(vit.model.pos_embed, torch.load(path)['pos_embed'])


def test_batch_norms_are_not_recomputed():
    with pytest.raises(ValueError, match='batch norms, which would count each image twice'):
        TimmViT('xcit_nano_12_p16_224', grad_checkpointing=True)
