"""ViTCoMer: identity at the start, positions, both releases' variants, its arguments."""

import pytest
import torch
from torch import nn

from vit_dense.adapters import ViTCoMer
from vit_dense.adapters.geometry import PyramidGeometry
from vit_dense.adapters.mrfp import MRFP
from vit_dense.adapters.vit_comer import add_patches, to_patches

CPU = torch.device('cpu')
STRIDES = (8, 16, 32)


def build(**kwargs):
    vit = {'type': 'TimmViT', 'model_name': 'test_vit', **kwargs.pop('vit', {})}
    return ViTCoMer(vit, **{'deform_num_heads': 4, 'conv_inplane': 8, **kwargs})


def with_all_parts_at_work(model):
    """No parameter left at zero."""
    for parameter in model.parameters():
        if not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


@pytest.mark.parametrize('name', ['test_vit', 'vit_small_patch14_reg4_dinov2'])
def test_untrained_interactions_leave_the_vit_alone(name, monkeypatch):
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
    for stage_map, (_, stop) in zip(seen, model.stages, strict=True):
        assert torch.equal(stage_map, expected[stop - 1])


def test_interaction_reaches_the_vit():
    model = build().eval()
    nn.init.constant_(model.interactions[0].cti_tov.gamma, 0.1)
    tokens, context = model.vit.embed(torch.randn(1, 3, 64, 64))
    geometry = PyramidGeometry(context.grid, 16, [(8, 8), (4, 4), (2, 2)], STRIDES, CPU)
    pyramid = torch.randn(1, 84, 64)
    with torch.no_grad():
        out, _ = model._before_blocks(model.interactions[0], tokens, pyramid, geometry)
    assert torch.equal(out[:, :1], tokens[:, :1])  # the cls token passes by
    assert not torch.allclose(out[:, 1:], tokens[:, 1:])


def test_pyramid_points_at_the_same_pixels():
    """50x70 px: cell (1, 2) at stride 8 has its centre at pixel (20, 12), in every level."""
    shapes = [(7, 9), (4, 5), (2, 3)]
    geometry = PyramidGeometry((4, 5), 14, shapes, STRIDES, CPU)
    assert geometry.places.points.shape == (63 + 20 + 6, 3, 2)
    for token, pixel in ((1 * 9 + 2, (20, 12)), (63 + 1, (24, 8)), (63 + 20 + 5, (80, 48))):
        point = geometry.places.points[token].tolist()
        for (h, w), stride, (x, y) in zip(shapes, STRIDES, point, strict=True):
            assert (x * w * stride, y * h * stride) == pytest.approx(pixel)


def ramp(shape, stride):
    """A map (1, 2, h, w) whose values are the x and y of its cells, in pixels; as tokens."""
    y, x = ((torch.arange(n) + 0.5) * stride for n in shape)
    return torch.stack(torch.meshgrid(y, x, indexing='ij')[::-1], -1).view(1, -1, 2)


@pytest.mark.parametrize(('patch', 'grid'), [(16, (6, 8)), (14, (7, 9)), (8, (12, 16))])
def test_branches_meet_at_the_same_pixels(patch, grid):
    """What says where it lies says so still on the other branch's grid, away from the edges."""
    shapes = [(12, 16), (6, 8), (3, 4)]
    geometry = PyramidGeometry(grid, patch, shapes, STRIDES, CPU)
    pyramid = torch.cat([ramp(*level) for level in zip(shapes, STRIDES, strict=True)], dim=1)
    found = to_patches(pyramid, geometry).view(*grid, 2)
    expected = 3 * ramp(grid, patch).view(*grid, 2)  # a sum of three levels
    inside = slice(16 // patch + 1, -(16 // patch + 1))
    torch.testing.assert_close(found[inside, inside], expected[inside, inside])

    taken = add_patches(torch.zeros_like(pyramid), ramp(grid, patch), geometry)
    fine, middle, coarse = taken.split([192, 48, 12], dim=1)
    assert not fine.any()
    assert not coarse.any()
    middle = middle.view(6, 8, 2)[1:-1, 1:-1]
    torch.testing.assert_close(middle, ramp((6, 8), 16).view(6, 8, 2)[1:-1, 1:-1])


def test_mrfp_has_two_receptive_fields_in_each_level():
    """What a cell depends on: 3x3 cells in the first half of the channels, 5x5 in the second."""
    shapes = [(9, 9), (7, 7), (5, 5)]
    mrfp = MRFP(6, 6, 'BN').eval()
    for layer in (mrfp.fc1, mrfp.fc2):  # channels stay themselves
        nn.init.eye_(layer.weight)
    tokens = torch.randn(1, 81 + 49 + 25, 6)
    for channel, reach in ((0, 1), (2, 1), (3, 2), (5, 2)):
        x = tokens.clone().requires_grad_()
        mrfp(x, shapes)[0, 81 + 3 * 7 + 3, channel].backward()  # the middle of the second level
        seen = x.grad[0].abs()
        assert not seen[:81].any()
        assert not seen[-25:].any()
        assert seen.any(0).tolist() == [c == channel for c in range(6)]
        rows, columns = seen[81:-25, channel].view(7, 7).nonzero(as_tuple=True)
        assert (rows.min(), rows.max()) == (3 - reach, 3 + reach)
        assert (columns.min(), columns.max()) == (3 - reach, 3 + reach)


def test_mrfp_by_hand():
    """One channel pair on one cell: norm, then the activation twice, as released."""
    mrfp = MRFP(2, 2, 'BN').eval()
    for layer in (mrfp.fc1, mrfp.fc2):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    for level in mrfp.levels:
        for conv in (level.conv3, level.conv5):
            nn.init.constant_(conv.bias, 0.5)
    tokens = torch.tensor([[[1.0, -2.0], [0.3, 0.6], [-1.0, 3.0]]])
    out = mrfp(tokens, [(1, 1)] * 3)
    for i, level in enumerate(mrfp.levels):
        centre = torch.stack((level.conv3.weight[0, 0, 1, 1], level.conv5.weight[0, 0, 2, 2]))
        x = (tokens[0, i] * centre + 0.5) * (1 + 1e-5) ** -0.5  # fresh batch norms
        torch.testing.assert_close(out[0, i], nn.GELU()(nn.GELU()(x)))


def test_residuals_run_on_normalised_tokens():
    """The release's way: without attention and FFN the pyramid comes out normalised."""
    model = build().eval()
    interaction = model.interactions[0]
    for part in (interaction.cti_toc.cfinter.attn, interaction.cti_toc.cfinter.ffn):
        for parameter in part.parameters():
            nn.init.zeros_(parameter)
    geometry = PyramidGeometry((4, 4), 16, [(8, 8), (4, 4), (2, 2)], STRIDES, CPU)
    pyramid, patches = 5 * torch.randn(1, 84, 64), torch.randn(1, 16, 64)
    expected = pyramid.clone()
    expected[:, 64:80] += patches
    with torch.no_grad():
        out = interaction.cti_toc(pyramid, patches, geometry)
    torch.testing.assert_close(out, nn.functional.layer_norm(expected, (64,), eps=1e-6))


def test_feature_source_adds_the_maps_it_names():
    """Zero everything but the sum of ViT maps: what is left is what the release adds."""
    outs = {}
    for source in ('stages', 'last'):
        torch.manual_seed(0)
        model = build(vit_feature_source=source).eval()
        for part in (model.spm, model.up, model.interactions):
            for parameter in part.parameters():
                nn.init.zeros_(parameter)
        nn.init.zeros_(model.level_embed)
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


@pytest.mark.parametrize(
    ('size', 'heads', 'ratio', 'wide', 'keys'),
    [
        ('tiny', 6, 1.0, 6.0, 670),
        ('small', 6, 1.0, 1.5, 670),
        ('base', 12, 0.5, 1.0, 670),
        ('large', 16, 0.5, 1.0, 838),
    ],
)
def test_released_numbers_of_tensors(size, heads, ratio, wide, keys):
    """Both tasks' releases have as many; with LayerScale and without a cls token."""
    vit_kwargs = {'init_values': 1.0, 'class_token': False, 'global_pool': 'avg'}
    vit = {
        'type': 'TimmViT',
        'model_name': f'vit_{size}_patch16_224',
        'model_kwargs': vit_kwargs,
    }
    for mrfp_ratio in (wide, 0.5):
        with torch.device('meta'):
            model = ViTCoMer(vit, deform_num_heads=heads, deform_ratio=ratio, mrfp_ratio=mrfp_ratio)
        assert len(model.state_dict()) == keys


def test_recomputing_counts_each_batch_once():
    """Batch statistics are the same whether activations are kept or recomputed; gradients too."""
    plain = with_all_parts_at_work(build()).train()
    saving = build(vit={'grad_checkpointing': True}).train()
    saving.load_state_dict(plain.state_dict())
    image = torch.randn(2, 3, 64, 64)
    for model in (plain, saving):
        sum(x.square().mean() for x in model(image)).backward()
    for (name, x), y in zip(plain.named_buffers(), saving.buffers(), strict=True):
        torch.testing.assert_close(x, y, msg=name)
    for (name, x), y in zip(plain.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(x.grad, y.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_layer_norm_leaves_images_of_a_batch_alone():
    """With norm='LN' no statistics are shared, in the MRFP neither."""
    model = with_all_parts_at_work(build(norm='LN')).train()
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        together, alone = model(images), model(images[:1])
    for x, y in zip(together, alone, strict=True):
        torch.testing.assert_close(x[:1], y, rtol=1e-4, atol=1e-4)


def test_exports():
    model = with_all_parts_at_work(build()).eval()
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        expected = model(image)
        program = torch.export.export(model, (image,))
        for x, y in zip(program.module()(image), expected, strict=True):
            torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_compiles_as_one_graph():
    """No graph break in forward or backward; without inductor, which would need a compiler."""
    model = build(vit={'window_size': 3}).train()
    image = torch.randn(2, 3, 64, 96)
    compiled = torch.compile(model, backend='aot_eager', fullgraph=True)
    expected, out = model(image), compiled(image)
    for x, y in zip(out, expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-4, atol=1e-4)
    sum(x.square().mean() for x in out).backward()
    assert model.interactions[0].cti_tov.gamma.grad.any()


@pytest.mark.parametrize('vit', [{'grad_checkpointing': True}, {'frozen_stages': 2},
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
        ({'mrfp_ratio': 0.01}, r'mrfp_ratio=0\.01 makes 0 channels of the width 64.*even number'),
        ({'mrfp_ratio': 65 / 64}, r'makes 65 channels.*0\.5 or 1\.0'),
        ({'interaction_indexes': [(0, 2), (3, 5)]}, r"2 stages: give 4, or.*'last'"),
        ({'vit': {'final_norm': True}}, 'final_norm=True: ViTCoMer has norms of its own'),
        ({'cffn_ratio': 0.0}, r'cffn_ratio=0\.0.*at least one channel'),
        ({'deform_num_heads': 5}, 'deform_num_heads and deform_ratio'),
        ({'norm': 'SyncBN'}, r"norm='SyncBN' is not one of \['BN', 'LN'\]"),
    ],
)
def test_mistakes_end_in_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
