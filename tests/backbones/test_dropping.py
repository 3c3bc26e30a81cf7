"""Blocks on some patches of each image give what they give where all others are hidden."""

from functools import cache

import pytest
import torch
from families import SMALL, UNDROPPABLE, every_droppable_family, small_kwargs

from vit_dense.backbones import TimmViT
from vit_dense.backbones.dropping import check_dropping, keep_patches

GRID = (3, 5)


def build(name: str, **options) -> TimmViT:
    torch.manual_seed(0)
    vit = TimmViT(name, model_kwargs=small_kwargs(name), **options).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return vit


@cache
def build_once(name: str) -> TimmViT:
    return build(name)


def images(name: str) -> torch.Tensor:
    patch = SMALL[name][1]
    return torch.randn(2, 3, patch * GRID[0], patch * GRID[1])


def draw(count: int) -> torch.Tensor:
    """Other patches of each image, in any order."""
    return torch.rand(2, GRID[0] * GRID[1]).argsort(dim=1)[:, :count]


def run_kept(vit: TimmViT, image: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
    tokens, context = vit.embed(image)
    tokens = keep_patches(vit, tokens, context, keep)
    return vit.run_blocks(tokens, context, 0, vit.depth)


def take(tokens: torch.Tensor, keep: torch.Tensor, prefix: int) -> torch.Tensor:
    rows = [torch.cat((one[:prefix], one[prefix:][i])) for one, i in zip(tokens, keep, strict=True)]
    return torch.stack(rows)


@every_droppable_family
@torch.no_grad()
def test_order_of_all_patches_does_not_matter(name):
    vit = build_once(name)
    check_dropping(vit)
    image, keep = images(name), draw(GRID[0] * GRID[1])
    tokens, context = vit.embed(image)
    expected = vit.run_blocks(tokens, context, 0, vit.depth)
    expected = take(expected, keep, vit.num_prefix_tokens)
    torch.testing.assert_close(run_kept(vit, image, keep), expected, rtol=1e-4, atol=1e-4)


@every_droppable_family
@torch.no_grad()
def test_pixels_of_hidden_patches_do_not_matter(name):
    vit = build_once(name)
    image, keep = images(name), draw(4)
    visible = torch.zeros(2, GRID[0] * GRID[1], dtype=torch.bool).scatter(1, keep, True)
    edge = vit.patch_size
    seen = visible.unflatten(1, GRID).repeat_interleave(edge, 1).repeat_interleave(edge, 2)[:, None]
    other = torch.where(seen, image, torch.randn_like(image))
    torch.testing.assert_close(run_kept(vit, other, keep), run_kept(vit, image, keep))
    assert not torch.allclose(run_kept(vit, 2 * image, keep), run_kept(vit, image, keep))


@every_droppable_family
@torch.no_grad()
def test_equals_attention_that_hides_the_others(name):
    vit = build_once(name)
    if not vit.family.takes_queries(vit.model.blocks[0]):
        pytest.skip('blocks take no attention mask; the order of patches is tested')
    image, keep = images(name), draw(4)
    prefix = vit.num_prefix_tokens
    tokens, context = vit.embed(image)
    context.attn_mask = torch.zeros(2, 1, 1, tokens.shape[1], dtype=torch.bool)
    context.attn_mask[..., :prefix] = True
    context.attn_mask.scatter_(3, prefix + keep[:, None, None], True)
    context.attn_mask = context.attn_mask.repeat(1, 1, tokens.shape[1], 1)
    expected = take(vit.run_blocks(tokens, context, 0, vit.depth), keep, prefix)
    torch.testing.assert_close(run_kept(vit, image, keep), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    'name', ['test_vit', 'vit_small_patch16_dinov3', 'vit_small_patch16_rope_mixed_224']
)
def test_gradient_checkpointing_has_the_same_gradients(name):
    gradients = []
    for recompute in (False, True):
        vit = build(name, grad_checkpointing=recompute, drop_path_rate=0.2).train()
        torch.manual_seed(1)
        run_kept(vit, images(name), draw(4)).square().mean().backward()
        gradients.append({n: p.grad for n, p in vit.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for one, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][one], gradient)


@pytest.mark.parametrize(('name', 'reason'), UNDROPPABLE.items())
def test_refused_by_name(name, reason):
    with pytest.raises(ValueError, match=f"model_name='{name}' cannot leave patches out.*{reason}"):
        check_dropping(build_once(name))


def test_windows_are_refused():
    with pytest.raises(ValueError, match=r"window_size=7 of 'test_vit'.*Leave window_size out"):
        check_dropping(build('test_vit', window_size=7, global_blocks=[3]))
    check_dropping(build('test_vit', window_size=[None] * 4))
