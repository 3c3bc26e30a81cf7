"""ViTAdapter without injectors, and every adapter that only reads a ViT: maps, graph, mistakes."""

import pytest
import torch
from torch import nn

from vit_dense.adapters import SimpleFeaturePyramid, ViTAdapter
from vit_dense.adapters.geometry import TokenGeometry
from vit_dense.backbones import LoRATimmViT, TimmViT
from vit_dense.layers import map_to_tokens, resample_map, tokens_to_map

STRIDES = (4, 8, 16, 32)
REGISTERS = {
    'model_name': 'vit_small_patch14_reg4_dinov2',
    'model_kwargs': {'depth': 4, 'embed_dim': 64, 'num_heads': 4, 'img_size': 224},
}
FROZEN = {'frozen_stages': 6}  # of six blocks
every_norm = pytest.mark.parametrize('tap_norm', [False, True])


def build(*, vit=None, **kwargs):
    """Without injectors, and with no parameter left at zero."""
    torch.manual_seed(0)
    vit = vit if isinstance(vit, TimmViT) else {'type': 'TimmViT', 'model_name': 'test_vit', **vit}
    options = {'inject': False, 'deform_num_heads': 4, 'conv_inplane': 8, **kwargs}
    model = ViTAdapter(vit, **options)
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def by_hand(model, image, *, tap_norm):
    """The maps from timm's taps, by the steps of DINOv3's adapter."""
    vit, size = model.vit, image.shape[-2:]
    ends = [stop - 1 for _, stop in model.stages]
    taps = vit.model.forward_intermediates(
        image, indices=ends, norm=tap_norm, intermediates_only=True
    )
    c1, *levels = model.spm(image)
    shapes = [tuple(x.shape[-2:]) for x in levels]
    levels = [map_to_tokens(x) + e for x, e in zip(levels, model.level_embed, strict=True)]
    pyramid = torch.cat(levels, dim=1)
    grid = tuple(taps[0].shape[-2:])
    geometry = TokenGeometry(grid, vit.patch_size, shapes, STRIDES[1:], image.device)
    for interaction, tap in zip(model.interactions, taps, strict=True):
        for extractor in (interaction.extractor, *interaction.extra_extractors):
            pyramid = extractor(pyramid, map_to_tokens(tap), geometry)
    c2, c3, c4 = (
        tokens_to_map(tokens, shape)
        for tokens, shape in zip(
            pyramid.split([h * w for h, w in shapes], dim=1), shapes, strict=True
        )
    )
    up = model.up(c2)
    maps = [c1 + up[..., : c1.shape[-2], : c1.shape[-1]], c2, c3, c4]
    norms = (model.norm1, model.norm2, model.norm3, model.norm4)
    out = []
    for x, tap, stride, norm in zip(maps, taps, STRIDES, norms, strict=True):
        cells = (-(-size[0] // stride), -(-size[1] // stride))
        added = resample_map(tap, stride=vit.patch_size, new_stride=stride, size=cells)
        out.append(norm(x + added))
    return out


@every_norm
@pytest.mark.parametrize('vit', [{}, REGISTERS], ids=['cls', 'patch 14, registers'])
@torch.no_grad()
def test_maps_are_those_of_extractors_on_timms_taps(vit, tap_norm):
    model = build(vit=vit, tap_norm=tap_norm).eval()
    image = torch.randn(2, 3, 75, 98)
    for ours, theirs in zip(model(image), by_hand(model, image, tap_norm=tap_norm), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_taps_may_be_after_any_blocks():
    stages = [(0, 0), (1, 3), (4, 4), (5, 5)]
    model = build(vit={}, interaction_indexes=stages).eval()
    image = torch.randn(1, 3, 64, 96)
    for ours, theirs in zip(model(image), by_hand(model, image, tap_norm=False), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def spy_on_taps(monkeypatch, module):
    """Return a list that gets all taps."""
    seen = []
    original = module.tap_blocks

    def record(*args):
        taps, grid = original(*args)
        seen.extend(taps)
        return taps, grid

    monkeypatch.setattr(module, 'tap_blocks', record)
    return seen


def taps_of(kind, vit, monkeypatch):
    """The taps of a forward in training mode, and the model."""
    import vit_dense.adapters.interaction as interaction
    import vit_dense.adapters.simple_pyramid as simple_pyramid

    if kind == 'ViTAdapter':
        module, model = interaction, build(vit=vit, norm='LN')
    else:
        vit = vit if isinstance(vit, TimmViT) else TimmViT('test_vit', **vit)
        module, model = simple_pyramid, SimpleFeaturePyramid(vit, out_channels=16, norm='LN')
    seen = spy_on_taps(monkeypatch, module)
    image = torch.randn(2, 3, 64, 96)
    maps = model.train()(image)
    taps = list(seen)
    return taps, maps, model, image


@pytest.mark.parametrize('kind', ['ViTAdapter', 'SimpleFeaturePyramid'])
def test_a_frozen_vit_has_no_graph_and_the_same_maps(kind, monkeypatch):
    taps, maps, model, image = taps_of(kind, FROZEN, monkeypatch)
    assert len(taps) == (4 if kind == 'ViTAdapter' else 1)
    assert not any(tap.requires_grad for tap in taps)
    assert all(x.requires_grad for x in maps)
    for ours, theirs in zip(maps, model.eval()(image), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('kind', ['ViTAdapter', 'SimpleFeaturePyramid'])
@pytest.mark.parametrize('frozen_stages', [-1, 5])
def test_a_vit_that_trains_in_part_has_a_graph(kind, frozen_stages, monkeypatch):
    taps, *_ = taps_of(kind, {'frozen_stages': frozen_stages}, monkeypatch)
    *earlier, last = [tap.requires_grad for tap in taps]
    assert last
    assert earlier == [frozen_stages == -1] * len(earlier)


def test_corrections_of_lora_are_trained(monkeypatch):
    pytest.importorskip('peft', reason='the extra [peft] is not installed')
    vit = LoRATimmViT('test_vit')
    taps, maps, model, _ = taps_of('ViTAdapter', vit, monkeypatch)
    assert all(tap.requires_grad for tap in taps)
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    trained = {name for name, p in model.vit.named_parameters() if p.requires_grad}
    assert trained
    assert all('lora_' in name for name in trained)
    assert silent(model) == []


def silent(model):
    """Trainable parameters without a gradient: unused ones would stop DDP."""
    return [
        name
        for name, p in model.named_parameters()
        if p.requires_grad and (p.grad is None or not p.grad.any())
    ]


@every_norm
@pytest.mark.parametrize('frozen_stages', [-1, 2, 6])
def test_gradients_reach_every_trainable_parameter(frozen_stages, tap_norm):
    model = build(vit={'frozen_stages': frozen_stages}, tap_norm=tap_norm).train()
    assert not any('injector' in name for name, _ in model.named_parameters())
    maps = model(torch.randn(2, 3, 70, 101))
    sum((x * torch.randn_like(x)).sum() for x in maps).backward()
    assert silent(model) == []
    trains = [name for name, p in model.vit.named_parameters() if p.requires_grad]
    assert (not trains) == (frozen_stages == 6)


def test_extractors_drop_paths_where_the_vit_is_frozen():
    model = build(vit={**FROZEN, 'drop_path_rate': 0.3}, norm='LN').train()
    drops = [i.extractor.drop_path for i in model.interactions]
    drops += [one.drop_path for one in model.interactions[-1].extra_extractors]
    assert len(drops) == 6
    assert all(drop.training and drop.drop_prob == 0.3 for drop in drops)
    assert not any(module.training for module in model.vit.model.modules())
    image = torch.randn(4, 3, 32, 32)
    assert not torch.equal(model(image)[3], model(image)[3])
    assert torch.equal(*(model.eval()(image)[3] for _ in range(2)))


@pytest.mark.parametrize('frozen_stages', [-1, 6])
def test_recomputing_gives_the_same_gradients(frozen_stages):
    vit = {'frozen_stages': frozen_stages}
    models = [build(vit=vit | {'grad_checkpointing': on}, tap_norm=True) for on in (False, True)]
    image = torch.randn(2, 3, 64, 64)
    for model in models:
        sum(x.square().mean() for x in model.train()(image)).backward()
    for (name, x), y in zip(models[0].named_parameters(), models[1].parameters(), strict=True):
        assert (x.grad is None) == (y.grad is None), name
        if x.grad is not None:
            torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-5, msg=name)


@pytest.mark.slow
def test_compiles_as_one_graph():
    """No graph break in forward or backward; without inductor, which would need a compiler."""
    model = build(vit=FROZEN, tap_norm=True).train()
    image = torch.randn(2, 3, 64, 96)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    for x, y in zip(compiled(image), model(image), strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
    sum(x.square().mean() for x in compiled(image)).backward()
    assert model.interactions[0].extractor.attn.value_proj.weight.grad.any()


SAM = {
    'model_name': 'samvit_base_patch16',
    'model_kwargs': {'depth': 4, 'embed_dim': 64, 'num_heads': 4, 'img_size': 64},
}
AVERAGED = {
    'model_name': 'beit_base_patch16_224',
    'model_kwargs': {'depth': 4, 'embed_dim': 64, 'num_heads': 4},
}


@pytest.mark.parametrize(
    ('vit', 'kwargs', 'message'),
    [
        ({}, {'inject': True, 'tap_norm': True}, r'tap_norm=True with inject=True.*inject=False'),
        (SAM, {'tap_norm': True}, r'tap_norm=True of an adapter.*; leave .* tap_norm'),
        (AVERAGED, {'tap_norm': True}, r"tap_norm=True of an adapter.*global_pool='token'"),
        ({'final_norm': True}, {}, r'final_norm=True: ViTAdapter has norms of its own'),
    ],
)
def test_mistakes_end_in_one_clear_error(vit, kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(vit=vit, **kwargs)


def test_a_built_vit_without_its_final_norm_is_refused():
    with pytest.raises(ValueError, match=r'tap_norm=True: build the TimmViT with final_norm=True'):
        build(vit=TimmViT('test_vit'), tap_norm=True)
