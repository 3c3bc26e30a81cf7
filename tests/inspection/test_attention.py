"""Recorded attention is what the model computes; rollout is its product."""

from functools import partial

import pytest
import torch
from families import SMALL, every_windowed_family, small_kwargs
from timm.models.vision_transformer_sam import window_unpartition

from vit_dense.adapters import ViTAdapter
from vit_dense.backbones import TimmViT
from vit_dense.backbones.windows import WindowPartition
from vit_dense.inspection import record, rollout

REFUSED = {'xcit_nano_12_p8_224'}
SIGNED = {'cait_xxs24_224'}  # talking heads


def build(name: str, **options) -> TimmViT:
    torch.manual_seed(0)
    kwargs = options.pop('model_kwargs', None) or small_kwargs(name)
    vit = TimmViT(name, model_kwargs=kwargs, **options).eval()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in vit.parameters():  # no zero tables, factors and gates
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return vit


def values(module, tokens: torch.Tensor) -> torch.Tensor:
    """Return timm's values (B, heads, N, D) for the input (B, N, C) of an attention module."""
    heads = module.num_heads
    if hasattr(module, 'v_norm'):  # Gemma: values are normalised, over grouped heads
        v = module.v_proj(tokens).unflatten(-1, (-1, module.head_dim))
        v = module.v_norm(v).transpose(1, 2)
        return v.repeat_interleave(heads // v.shape[1], dim=1)
    if getattr(module, 'v_proj', None) is not None:
        v = module.v_proj(tokens)
    elif getattr(module, 'qkv', None) is not None:
        v = module.qkv(tokens).chunk(3, dim=-1)[-1]
        bias = getattr(module, 'v_bias', None)
        v = v if bias is None else v + bias
    else:
        v = module.v(tokens)
    return v.unflatten(-1, (heads, -1)).transpose(1, 2)


def output(module) -> torch.nn.Module:
    return module.o_proj if hasattr(module, 'o_proj') else module.proj


def after_values(module) -> torch.nn.Module:
    """Return the first layer that takes attention times values."""
    norm = getattr(module, 'norm', None)
    return output(module) if norm is None or isinstance(norm, torch.nn.Identity) else norm


def run_fused(vit: TimmViT, image: torch.Tensor) -> list[dict[str, list[torch.Tensor]]]:
    """Run without recording; return inputs of attention and of what follows it, per block."""
    found: list[dict[str, list[torch.Tensor]]] = []
    hooks = []
    for block in vit.model.blocks:
        (module,) = vit.family.attention_modules(block)
        seen: dict[str, list[torch.Tensor]] = {'tokens': [], 'attended': []}
        for layer, key in ((module, 'tokens'), (after_values(module), 'attended')):
            keep = partial(lambda calls, _, args: calls.append(args[0]), seen[key])
            hooks.append(layer.register_forward_pre_hook(keep))
        found.append(seen)
    vit.run_blocks(*vit.embed(image), 0, vit.depth)
    for hook in hooks:
        hook.remove()
    return found


def assert_close(got: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare to 1e-5 of the largest value."""
    torch.testing.assert_close(got, expected, atol=1e-5 * expected.abs().max().item(), rtol=0)


def check(vit: TimmViT, image: torch.Tensor, *, signed: bool = False) -> None:
    """Attention of all blocks times timm's values must be what timm's fused blocks go on with."""
    expected = run_fused(vit, image)
    with record(vit) as recording:
        tokens = vit.run_blocks(*vit.embed(image), 0, vit.depth)
    assert_close(tokens, vit.run_blocks(*vit.embed(image), 0, vit.depth))
    assert len(recording.rows) == len(recording.means) == len(recording.tokens) == vit.depth
    assert_close(recording.tokens[-1], tokens[0])
    prefix = vit.num_prefix_tokens
    for index, attention in enumerate(recording.rows):
        block, seen = vit.model.blocks[index], expected[index]
        (module,) = vit.family.attention_modules(block)
        sums = attention.sum(-1)
        if not signed:
            torch.testing.assert_close(sums, torch.ones_like(sums))
            assert attention.min() >= 0
        if vit.windows[index] is None:
            (x,), (after,) = seen['tokens'], seen['attended']
        else:
            passed = prefix * getattr(block, 'use_gpsa', False)  # ConViT's first blocks
            windows = WindowPartition(recording.grid, vit.windows[index], prefix - passed)
            x, after = windows.merge(seen['tokens']), windows.merge(seen['attended'])
        n = x.shape[1]
        got = attention[:, -n:, -n:] @ values(module, x)[0]
        assert_close(got.transpose(0, 1).flatten(1), after[0])


@pytest.mark.parametrize('name', [n for n in SMALL if n not in REFUSED and 'sam' not in n])
@torch.no_grad()
def test_attention_times_values_is_what_the_model_computes(name):
    vit = build(name)
    image = torch.randn(1, 3, 2 * vit.patch_size, 3 * vit.patch_size - 3)
    check(vit, image, signed=name in SIGNED)


@every_windowed_family
@torch.no_grad()
def test_windows_are_merged(name):
    vit = build(name, window_size=2, global_blocks=[1, 3])
    image = torch.randn(1, 3, 3 * vit.patch_size, 5 * vit.patch_size - 3)
    check(vit, image, signed=name in SIGNED)


@torch.no_grad()
def test_sam_attends_to_its_padding_as_well():
    """Its windows of 14 are larger than the grid; a row's missing share is on zeros."""
    name = 'samvit_base_patch16_224'
    vit = build(name, model_kwargs={**small_kwargs(name), 'window_size': 2})
    inputs = [torch.Tensor() for _ in range(vit.depth)]
    for index, block in enumerate(vit.model.blocks):
        block.norm1.register_forward_hook(lambda *args, i=index: inputs.__setitem__(i, args[2]))
    image = torch.randn(1, 3, 48, 75)
    expected = run_fused(vit, image)
    with record(vit) as recording:
        vit.run_blocks(*vit.embed(image), 0, vit.depth)
    sizes = {block.window_size for block in vit.model.blocks}
    assert sizes == {2, 0}
    for block, attention, x, seen in zip(
        vit.model.blocks, recording.rows, inputs, expected, strict=True
    ):
        after, window = seen['attended'][0], block.window_size
        if window:
            maps = after.unflatten(1, (window, window))
            after = window_unpartition(maps, window, (3, 5), (4, 6)).flatten(1, 2)
        missing = 1 - attention.sum(-1, keepdim=True)  # (heads, N, 1)
        if not window:
            assert missing.abs().max() < 1e-5
        padded = values(block.attn, x.flatten(1, 2)[:, :1] * 0)[0]  # (heads, 1, D)
        got = attention @ values(block.attn, x.flatten(1, 2))[0] + missing * padded
        assert_close(got.transpose(0, 1).flatten(1), after[0])


@pytest.mark.parametrize('name', sorted(REFUSED))
def test_attention_between_channels_is_refused(name):
    vit = build(name)
    with pytest.raises(ValueError, match=f'{name}.* attends between channels'), record(vit):
        pass


@torch.no_grad()
def test_differential_attention_is_refused():
    kwargs = {'embed_dim': 64, 'num_heads': 2, 'depth': 2, 'attn_layer': 'diff'}
    vit = build('vit_tiny_patch16_224', model_kwargs=kwargs)
    with pytest.raises(ValueError, match=r'vit_tiny_patch16_224.*subtracts'), record(vit):
        vit.run_blocks(*vit.embed(torch.randn(1, 3, 32, 32)), 0, 2)
    attention = vit.model.blocks[0].attn
    assert attention.fused_attn
    assert not attention.attn_drop._forward_pre_hooks
    assert 'run_blocks' not in vit.__dict__


@torch.no_grad()
def test_heads_of_parallel_attentions_are_listed():
    kwargs = {'embed_dim': 64, 'num_heads': 2, 'depth': 2}
    vit = build('vit_small_patch16_18x2_224', model_kwargs=kwargs)
    with record(vit, [0, 3]) as recording:
        vit.run_blocks(*vit.embed(torch.randn(1, 3, 32, 32)), 0, 2)
    assert recording.rows[0].shape == (4, 2, 5)
    torch.testing.assert_close(recording.rows[0].sum(-1), torch.ones(4, 2))


@torch.no_grad()
def test_attention_inside_an_adapter_is_of_the_adapted_tokens():
    torch.manual_seed(0)
    adapter = ViTAdapter(
        {'type': 'TimmViT', 'model_name': 'test_vit'}, conv_inplane=8, deform_num_heads=2
    ).eval()
    for parameter in adapter.parameters():  # the injectors' factors start at zero
        parameter += 0.1 * torch.randn(parameter.shape)
    image = torch.randn(1, 3, 64, 96)
    expected = adapter(image)
    with record(adapter.vit, [0, 1]) as recording:
        maps = adapter(image)
    for got, wanted in zip(maps, expected, strict=True):
        assert_close(got, wanted)
    assert recording.grid == (4, 6)
    alone = adapter.vit
    with record(alone, [0, 1]) as plain:
        alone.run_blocks(*alone.embed(image), 0, alone.depth)
    assert (plain.rows[-1] - recording.rows[-1]).abs().max() > 1e-3


def test_rollout_is_the_product_by_hand():
    first = torch.tensor([[1.0, 0.0], [0.5, 0.5]])
    second = torch.tensor([[0.2, 0.8], [0.0, 1.0]])
    # (0.5 second + 0.5 I) (0.5 first + 0.5 I) = [[0.6, 0.4], [0, 1]] [[1, 0], [0.25, 0.75]]
    expected = torch.tensor([[0.7, 0.3], [0.25, 0.75]])
    torch.testing.assert_close(rollout([first, second], [0, 1]), expected)
    torch.testing.assert_close(rollout([first, second], [1]), expected[1:])
    # a row that sums to 0.5 is normalised: (0.25, 0.25 + 0.5) / 0.75... of 0.5 A + 0.5 I
    short = torch.tensor([[0.0, 0.0], [0.25, 0.25]])
    torch.testing.assert_close(rollout([short], [1]), torch.tensor([[1 / 6, 5 / 6]]))


@torch.no_grad()
def test_rollout_of_a_tiny_vit_is_the_product_of_its_matrices():
    vit = build('test_vit')
    with record(vit) as recording:
        vit.run_blocks(*vit.embed(torch.randn(1, 3, 32, 48)), 0, vit.depth)
    product = torch.eye(7)
    for attention in recording.rows:
        product = (0.5 * attention.mean(0) + 0.5 * torch.eye(7)) @ product
    torch.testing.assert_close(rollout(recording.means, range(7)), product)
