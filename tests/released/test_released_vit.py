"""ReleasedTimmViT: the ViT of the released adapters, against its definition spelled out."""

import pytest
import timm
import torch
import torch.nn.functional as F

from vit_dense.backbones import TimmViT
from vit_dense.released import ReleasedTimmViT
from vit_dense.weights import load_vit_weights

TINY = {
    'img_size': 64,
    'embed_dim': 24,
    'depth': 2,
    'num_heads': 2,
}


def build(name='vit_tiny_patch16_224', kwargs=TINY, **options):
    torch.manual_seed(0)
    vit = ReleasedTimmViT(name, model_kwargs=kwargs, **options)
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit.eval()


def test_positions_are_resized_without_low_pass():
    vit = build()
    image = torch.randn(1, 3, 32, 96)
    tokens, context = vit.embed(image)
    assert context.grid == (2, 6)
    grid = vit.model.pos_embed.view(1, 4, 4, 24).permute(0, 3, 1, 2)
    positions = F.interpolate(grid, size=(2, 6), mode='bicubic', align_corners=False)
    expected = vit.model.patch_embed.proj(image) + positions
    torch.testing.assert_close(tokens, expected.flatten(2).transpose(1, 2))


def padded_window_attention(attn, x, grid, window):
    """Zeros after the projection, up to whole windows; nothing is masked."""
    (h, w), heads = grid, attn.num_heads
    qkv = attn.qkv(x).view(1, h, w, -1)
    rows, columns = -(-h // window), -(-w // window)
    qkv = F.pad(qkv, (0, 0, 0, columns * window - w, 0, rows * window - h))
    out = torch.zeros(1, rows * window, columns * window, x.shape[-1])
    for top in range(0, rows * window, window):
        for left in range(0, columns * window, window):
            part = qkv[:, top : top + window, left : left + window].flatten(1, 2)
            q, k, v = part.view(1, window * window, 3, heads, -1).permute(2, 0, 3, 1, 4)
            logits = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
            y = (logits.softmax(-1) @ v).transpose(1, 2).reshape(1, window, window, -1)
            out[:, top : top + window, left : left + window] = y
    return attn.proj(out[:, :h, :w].flatten(1, 2))


@pytest.mark.parametrize('window', [3, 4, 7])
def test_windows_at_the_edge_attend_to_zeros(window):
    vit = build(window_size=window, global_blocks=[])
    tokens, context = vit.embed(torch.randn(1, 3, 64, 96))  # 4 x 6 tokens
    block = vit.model.blocks[0]
    x = tokens + padded_window_attention(block.attn, block.norm1(tokens), (4, 6), window)
    expected = x + block.mlp(block.norm2(x))
    torch.testing.assert_close(
        vit.run_blocks(tokens, context, 0, 1), expected, atol=1e-5, rtol=1e-5
    )


def test_windows_differ_from_the_plain_ones_at_the_edge_only():
    released, plain = build(window_size=4, global_blocks=[]), None
    no_cls = {'class_token': False, 'global_pool': 'avg', **TINY}
    plain = TimmViT('vit_tiny_patch16_224', window_size=4, global_blocks=[], model_kwargs=no_cls)
    plain.load_state_dict(released.state_dict())
    tokens, context = released.embed(torch.randn(1, 3, 64, 96))
    maps = [
        vit.to_map(vit.run_blocks(tokens, context, 0, 1), context)
        for vit in (released, plain.eval())
    ]
    torch.testing.assert_close(maps[0][..., :4], maps[1][..., :4])
    assert (maps[0][..., 4:] - maps[1][..., 4:]).abs().max() > 1e-2


def test_trains_with_recomputed_blocks():
    gradients = []
    for checkpointing in (False, True):
        vit = build(window_size=3, global_blocks=[], grad_checkpointing=checkpointing).train()
        tokens, context = vit.embed(torch.ones(1, 3, 64, 96))
        vit.run_blocks(tokens, context, 0, 2).square().mean().backward()
        gradients.append([p.grad for n, p in vit.named_parameters() if 'norm.' not in n])
    for a, b in zip(*gradients, strict=True):
        assert a.any()
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ('name', 'kwargs', 'message'),
    [
        ('vit_tiny_patch16_224', {'class_token': True}, 'has 1 prefix tokens'),
        ('eva02_tiny_patch14_224', {}, 'plain ViTs'),
        ('deit_tiny_distilled_patch16_224', {}, 'without distillation tokens'),
        ('vit_tiny_patch16_224', {**TINY, 'pos_embed': 'none'}, 'no learned positions'),
    ],
)
def test_other_vits_are_refused(name, kwargs, message):
    with pytest.raises(ValueError, match=f'ReleasedTimmViT.*{message}'):
        ReleasedTimmViT(name, model_kwargs=kwargs)


@pytest.mark.parametrize('kind', [ReleasedTimmViT, TimmViT])
def test_a_classifier_starts_it_whose_cls_token_has_no_place(kind, tmp_path):
    file, sizes = tmp_path / 'deit.pth', {'embed_dim': 24, 'depth': 2, 'num_heads': 2}
    source = timm.create_model('deit_tiny_patch16_224', **sizes)
    torch.save({'model': source.state_dict()}, file)
    asked = {'class_token': False, 'global_pool': 'avg'} if kind is TimmViT else {}
    vit = kind('deit_tiny_patch16_224', checkpoint=str(file), model_kwargs={**sizes, **asked})
    vit.init_weights()
    assert torch.equal(vit.model.pos_embed, source.pos_embed[:, 1:])
    assert torch.equal(vit.model.blocks[1].mlp.fc2.weight, source.blocks[1].mlp.fc2.weight)
    with pytest.raises(ValueError, match='networks differ in cls_token'):
        load_vit_weights(vit.model, file)


def run(vit: TimmViT, image: torch.Tensor) -> torch.Tensor:
    tokens, context = vit.embed(image)
    return vit.run_blocks(tokens, context, 0, vit.depth)


BEIT = {'embed_dim': 32, 'depth': 4, 'num_heads': 2, 'img_size': 64}


@pytest.mark.parametrize(
    ('edges', 'kwargs', 'message'),
    [
        (14, BEIT, r'windows in every block; give a sequence'),
        ([14, None, 14, 14], BEIT, r'windows in every block; give a sequence'),
        ([14, 14], BEIT, r'one for each of the 4 blocks'),
        ([14] * 4, {**BEIT, 'use_rel_pos_bias': False}, r'a table of relative positions in each'),
    ],
)
def test_the_detectors_beit_needs_all_its_windows(edges, kwargs, message) -> None:
    with pytest.raises(ValueError, match=message):
        ReleasedTimmViT('beit_base_patch16_224', window_size=edges, model_kwargs=kwargs)


def test_the_detectors_beit_trains_in_all_its_parts() -> None:
    vit = ReleasedTimmViT('beit_base_patch16_224', window_size=[2, 3, 2, 5], model_kwargs=BEIT)
    run(vit.train(), torch.randn(1, 3, 64, 96)).square().mean().backward()
    missing = [name for name, p in vit.named_parameters() if p.grad is None]
    assert not missing
    tables = [b.attn.relative_position_bias_table for b in vit.model.blocks]
    assert [len(t) for t in tables] == [9, 25, 9, 81]
    assert vit.num_prefix_tokens == 0
