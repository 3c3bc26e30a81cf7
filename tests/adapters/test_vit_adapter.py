"""ViTAdapter's own: where its two branches look, stages, sizes; see also test_interaction.py."""

import pytest
import torch

from vit_dense.adapters import ViTAdapter
from vit_dense.adapters.geometry import TokenGeometry


def build(**kwargs):
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', **kwargs.pop('vit', {})}
    return ViTAdapter(vit, **{'deform_num_heads': 4, 'conv_inplane': 8, **kwargs})


def places(grid):
    """(Lq, levels, 2): where queries without an offset look."""
    offsets = torch.zeros(1, len(grid.reference_points), 1, len(grid.shapes), 1, 2)
    return grid.locations(offsets)[0, :, 0, :, 0]


def test_geometry_points_at_the_same_pixels():
    """Patch 14 on 50x70 px: token (1, 2) has its centre at pixel (35, 21)."""
    shapes = [(7, 9), (4, 5), (2, 3)]
    geometry = TokenGeometry((4, 5), 14, shapes, (8, 16, 32), torch.device('cpu'))
    point = places(geometry.vit_in_pyramid)[1 * 5 + 2]
    for (h, w), stride, (x, y) in zip(shapes, (8, 16, 32), point.tolist(), strict=True):
        assert (x * w * stride, y * h * stride) == pytest.approx((35, 21))
    # level 1, cell (0, 1): centre (24, 8)
    x, y = places(geometry.pyramid_in_vit)[63 + 1, 0].tolist()
    assert (x * 5 * 14, y * 4 * 14) == pytest.approx((24, 8))


def test_geometry_is_the_releases_where_sizes_divide():
    geometry = TokenGeometry(
        (4, 6), 16, [(8, 12), (4, 6), (2, 3)], (8, 16, 32), torch.device('cpu')
    )
    x = (torch.arange(6) + 0.5) / 6
    y = (torch.arange(4) + 0.5) / 4
    grid = torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], -1).reshape(24, 1, 2)
    torch.testing.assert_close(places(geometry.vit_in_pyramid), grid.expand(24, 3, 2))


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


def test_points_are_needed():
    with pytest.raises(ValueError, match='0 points: each must be at least 1'):
        build(n_points=0)


def test_without_its_maps_the_vit_is_felt_through_the_pyramid_alone():
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 64)
    models = {source: build(vit_feature_source=source).eval() for source in ('none', 'last')}
    models['last'].load_state_dict(models['none'].state_dict())
    seen = []
    for model in models.values():  # before the norms, whose statistics are 0 and 1
        model.norm3 = torch.nn.Identity()
        vit = model.vit
        with torch.no_grad():
            tokens, context = vit.embed(image)
            tokens = vit.run_blocks(tokens, context, 0, vit.depth)
            seen.append((model(image)[2], vit.to_map(tokens, context)))
    (without, vit_map), (with_map, _) = seen
    torch.testing.assert_close(with_map - without, vit_map, atol=1e-5, rtol=1e-5)


def test_another_backbone_in_the_vit_s_place_is_refused():
    with pytest.raises(ValueError, match='vit is a TimmPyramid: an adapter sits on a plain ViT'):
        ViTAdapter({'type': 'TimmPyramid', 'model_name': 'test_convnext'})
