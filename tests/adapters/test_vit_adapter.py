"""ViTAdapter: identity at the start, both releases' variants, its arguments."""

import pytest
import torch

from vit_dense.adapters import ViTAdapter
from vit_dense.adapters.geometry import TokenGeometry


def build(**kwargs):
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', **kwargs.pop('vit', {})}
    return ViTAdapter(vit, **{'deform_num_heads': 4, 'conv_inplane': 8, **kwargs})


@pytest.mark.parametrize('name', ['test_vit', 'vit_small_patch14_reg4_dinov2'])
def test_untrained_injectors_leave_the_vit_alone(name, monkeypatch):
    """At gamma 0 the ViT branch is timm's forward, bit for bit."""
    vit = {'model_name': name}
    if name != 'test_vit':
        vit['model_kwargs'] = {'depth': 4, 'embed_dim': 48, 'num_heads': 3, 'img_size': 224}
    model = build(vit=vit).eval()
    seen = []
    to_map = model.vit.to_map

    def record(*args, **kwargs):
        seen.append(to_map(*args, **kwargs))
        return seen[-1]

    monkeypatch.setattr(model.vit, 'to_map', record)
    image = torch.randn(1, 3, 75, 98)
    with torch.no_grad():
        model(image)
        expected = model.vit.model.forward_intermediates(image, intermediates_only=True)
    last_blocks = [stop - 1 for _, stop in model.stages]
    for stage_map, block in zip(seen, last_blocks, strict=True):
        assert torch.equal(stage_map, expected[block])


def test_injection_reaches_the_vit():
    model = build().eval()
    for interaction in model.interactions:
        torch.nn.init.constant_(interaction.injector.gamma, 0.1)
    tokens, context = model.vit.embed(torch.randn(1, 3, 64, 64))
    geometry = TokenGeometry(context.grid, 16, [(8, 8), (4, 4), (2, 2)], (8, 16, 32), tokens.device)
    pyramid = torch.randn(1, 84, 64)
    with torch.no_grad():
        out, _ = model._before_blocks(model.interactions[0], tokens, pyramid, geometry)
    assert torch.equal(out[:, :1], tokens[:, :1])  # the cls token passes by
    assert not torch.allclose(out[:, 1:], tokens[:, 1:])


def test_geometry_points_at_the_same_pixels():
    """Patch 14 on 50x70 px: token (1, 2) has its centre at pixel (35, 21)."""
    shapes = [(7, 9), (4, 5), (2, 3)]
    geometry = TokenGeometry((4, 5), 14, shapes, (8, 16, 32), torch.device('cpu'))
    point = geometry.vit_in_pyramid.points[1 * 5 + 2]
    for (h, w), stride, (x, y) in zip(shapes, (8, 16, 32), point.tolist(), strict=True):
        assert (x * w * stride, y * h * stride) == pytest.approx((35, 21))
    # level 1, cell (0, 1): centre (24, 8)
    x, y = geometry.pyramid_in_vit.points[63 + 1, 0].tolist()
    assert (x * 5 * 14, y * 4 * 14) == pytest.approx((24, 8))


def test_geometry_is_the_releases_where_sizes_divide():
    geometry = TokenGeometry(
        (4, 6), 16, [(8, 12), (4, 6), (2, 3)], (8, 16, 32), torch.device('cpu')
    )
    x = (torch.arange(6) + 0.5) / 6
    y = (torch.arange(4) + 0.5) / 4
    grid = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], -1).reshape(24, 1, 2)
    torch.testing.assert_close(geometry.vit_in_pyramid.points, grid.expand(24, 3, 2))


def test_feature_source_adds_the_maps_it_names():
    """Zero everything but the sum of ViT maps: what is left is what the release adds."""
    outs = {}
    for source in ('stages', 'last'):
        torch.manual_seed(0)
        model = build(vit_feature_source=source).eval()
        for part in (model.spm, model.up, model.interactions):
            for parameter in part.parameters():
                torch.nn.init.zeros_(parameter)
        torch.nn.init.zeros_(model.level_embed)
        image = torch.randn(1, 3, 64, 64)
        with torch.no_grad():
            outs[source] = model(image)
            maps = model.vit.model.forward_intermediates(image, intermediates_only=True)
    scale = (1 + 1e-5) ** -0.5  # fresh batch norms
    ends = [stop - 1 for _, stop in model.stages]
    torch.testing.assert_close(outs['stages'][2], maps[ends[2]] * scale)
    torch.testing.assert_close(outs['last'][2], maps[-1] * scale)
    torch.testing.assert_close(outs['last'][3], outs['stages'][3])
    assert not torch.allclose(outs['last'][0], outs['stages'][0])


def test_stages_split_any_depth():
    assert build().stages == [(0, 1), (1, 3), (3, 4), (4, 6)]
    deep = build(vit={'model_kwargs': {'depth': 24}})
    assert deep.stages == [(0, 6), (6, 12), (12, 18), (18, 24)]
    two = build(interaction_indexes=[(0, 2), (3, 5)], vit_feature_source='last').eval()
    with torch.no_grad():
        assert len(two(torch.randn(1, 3, 64, 64))) == 4


def test_released_sizes():
    """Adapter parameters of the released models, in millions."""
    expected = {'tiny': (6, 1.0, 2.44), 'small': (6, 1.0, 5.83), 'base': (12, 0.5, 13.68)}
    for size, (heads, ratio, millions) in expected.items():
        vit = {'type': 'TimmViT', 'model_name': f'vit_{size}_patch16_224'}
        with torch.device('meta'):
            model = ViTAdapter(vit, deform_num_heads=heads, deform_ratio=ratio)
        own = sum(p.numel() for n, p in model.named_parameters() if not n.startswith('vit.'))
        assert own / 1e6 == pytest.approx(millions, abs=0.006), size


def test_exports():
    model = build().eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        program = torch.export.export(model, (image,))
        for x, y in zip(program.module()(image), expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


def test_compiles_as_one_graph():
    """No graph break in forward or backward; without inductor, which would need a compiler."""
    model = build(vit={'window_size': 3}).train()
    image = torch.randn(2, 3, 64, 96)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    expected, out = model(image), compiled(image)
    for x, y in zip(out, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
    sum(x.square().mean() for x in out).backward()
    assert model.interactions[0].injector.gamma.grad.any()


@pytest.mark.parametrize('vit', [{}, {'grad_checkpointing': True}, {'frozen_stages': 2},
                                 {'window_size': 3, 'drop_path_rate': 0.2}])  # fmt: skip
def test_trains_under_ddp(tmp_path, vit):
    """Two steps of one gloo process: the second fails where a parameter went unused."""
    store = torch.distributed.FileStore(str(tmp_path / 'store'), 1)
    torch.distributed.init_process_group('gloo', store=store, rank=0, world_size=1)
    try:
        model = torch.nn.parallel.DistributedDataParallel(build(vit=vit).train())
        for _ in range(2):
            sum(x.sum() for x in model(torch.randn(2, 3, 64, 64))).backward()
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'interaction_indexes': [(0, 1), (2, 3), (4, 5), (6, 6)]}, r'run through all of 0\.\.5'),
        (
            {'interaction_indexes': [(0, 1), (3, 3), (4, 4), (5, 5)]},
            r'such as \[\(0, 0\), ',
        ),
        ({'interaction_indexes': [(0, 1), (2, 5)]}, r"2 stages: give 4, or.*'last'"),
        ({'interaction_indexes': [1, 2, 3, 5]}, r'\[1, 2, 3, 5\] must name the first and last'),
        ({'n_points': 0}, '0 points: each must be at least 1'),
        ({'conv_inplane': 0}, 'conv_inplane=0.*at least one channel'),
        ({'vit': {'final_norm': True}}, 'final_norm=True: ViTAdapter has norms of its own'),
        ({'vit_feature_source': 'all'}, r"not one of 'stages'.*'last'"),
        ({'norm': 'SyncBN'}, r"norm='SyncBN' is not one of \['BN', 'LN'\]"),
        ({'deform_num_heads': 5}, 'deform_num_heads and deform_ratio'),
        ({'vit': {'model_kwargs': {'depth': 3}}}, '3 blocks cannot be cut into 4 stages'),
    ],
)
def test_mistakes_end_in_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
