"""ViTCoMer's own: positions, MRFP, residuals, arguments; see also test_interaction.py."""

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


def test_pyramid_points_at_the_same_pixels():
    """50x70 px: cell (1, 2) at stride 8 has its centre at pixel (20, 12), in every level."""
    shapes = [(7, 9), (4, 5), (2, 3)]
    geometry = PyramidGeometry((4, 5), 14, shapes, STRIDES, CPU)
    offsets = torch.zeros(1, 63 + 20 + 6, 1, 3, 1, 2)
    places = geometry.pyramid_in_pyramid.locations(offsets)[0, :, 0, :, 0]
    for token, pixel in ((1 * 9 + 2, (20, 12)), (63 + 1, (24, 8)), (63 + 20 + 5, (80, 48))):
        point = places[token].tolist()
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


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        ({'mrfp_ratio': 0.01}, r'mrfp_ratio=0\.01 makes 0 channels of the width 64.*even number'),
        ({'mrfp_ratio': 65 / 64}, r'makes 65 channels.*0\.5 or 1\.0'),
    ],
)
def test_mistakes_end_in_one_clear_error(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)
