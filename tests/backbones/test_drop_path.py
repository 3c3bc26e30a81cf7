"""Stochastic depth under windows: an image's windows fall together, its branches apart."""

from itertools import product

import pytest
import torch
from families import small_kwargs

from vit_dense.backbones import TimmViT
from vit_dense.backbones.windows import ImageDropPath, active_drop_paths, run_dropping


def build(name: str, **kwargs) -> TimmViT:
    return TimmViT(name, model_kwargs=small_kwargs(name), **kwargs).eval()


def test_drop_path_skips_a_block_for_whole_images():
    torch.manual_seed(0)
    vit = build('test_vit', window_size=3, global_blocks=(), drop_path_rate=0.5).train()
    tokens, context = vit.embed(torch.randn(32, 3, 112, 80))  # a grid of 7x5: four tiles
    with torch.no_grad():
        changed = (vit.run_blocks(tokens, context, 3, 4) != tokens).any(-1)
    patches = changed[:, vit.num_prefix_tokens :]
    assert (patches.all(1) | ~patches.any(1)).all()
    # Attention and MLP are both dropped for a quarter of the images.
    assert 1 <= int((~patches.any(1)).sum()) <= 16
    assert not any(path.drop_masks for path in active_drop_paths(vit.model.blocks[3]))


@pytest.mark.parametrize('name', ['cait_xxs24_224', 'convit_tiny', 'gemma4_vit_167m', 'test_vit'])
def test_attention_and_mlp_are_dropped_apart(name, monkeypatch):
    """Also where one module of timm's serves both; an image's windows fall together."""
    torch.manual_seed(0)
    vit = build(name, window_size=2, global_blocks=(), drop_path_rate=0.5).train()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = torch.randn(1, 3, 3 * vit.patch_size, 3 * vit.patch_size)
    tokens, context = vit.embed(image.expand(48, -1, -1, -1))

    @torch.no_grad()
    def patches():
        return vit.run_blocks(tokens, context, 3, 4)[:, vit.num_prefix_tokens :]

    found, cases = patches(), []
    for factors in product((0.0, 2.0), repeat=2):
        draws = iter(factors)
        monkeypatch.setattr(
            ImageDropPath, 'draw', lambda _, n, x, draws=draws: x.new_full((n, 1, 1), next(draws))
        )
        cases.append(patches()[:1])
    same = torch.stack([torch.isclose(found, case, atol=1e-5).flatten(1).all(1) for case in cases])
    assert (same.sum(0) == 1).all(), 'each image is one of the four cases, as a whole'
    assert (same.sum(1) > 0).all(), 'all four occur'


def test_drop_path_does_as_it_is_told():
    vit = build('test_vit', window_size=3, global_blocks=(), drop_path_rate=0.5)
    block = vit.model.blocks[3]
    tokens = torch.randn(2, 5, vit.embed_dim)
    paths = active_drop_paths(block.train())
    assert [path.drop_prob for path in paths] == pytest.approx([0.5, 0.5])
    drop_masks = [torch.ones(2, 1, 1)] * 2
    expected = block.eval()(tokens)
    torch.testing.assert_close(run_dropping(block.train(), tokens, *drop_masks), expected)
    torch.manual_seed(0)
    drawn = paths[0].draw(1000, tokens)
    assert set(drawn.flatten().tolist()) == {0.0, 2.0}
    assert drawn.mean() == pytest.approx(1.0, abs=0.1)
