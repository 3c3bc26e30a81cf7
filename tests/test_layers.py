"""Shared layers: norms at batch 1, pixel-exact resampling, the convolutional FFN."""

import pytest
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import nn

from vit_dense.layers import (
    ConvFFN,
    TolerantBatchNorm2d,
    build_norm2d,
    keep_channels_last,
    map_to_tokens,
    resample_map,
    tokens_to_map,
)


def test_tolerant_norm_equals_batch_norm_where_that_works():
    ours, theirs = TolerantBatchNorm2d(4), nn.BatchNorm2d(4)
    x = torch.randn(2, 4, 3, 3)
    for _ in range(2):
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    torch.testing.assert_close(ours.eval()(x), theirs.eval()(x), rtol=0, atol=0)


def test_tolerant_norm_trains_on_a_single_value():
    x = torch.randn(1, 4, 1, 1)
    with pytest.raises(ValueError, match='more than 1 value'):
        nn.BatchNorm2d(4)(x)
    norm = TolerantBatchNorm2d(4)
    norm.running_mean.fill_(0.5)
    before = norm.running_mean.clone()
    out = norm(x)
    torch.testing.assert_close(out, (x - 0.5) / (1 + norm.eps) ** 0.5)
    assert torch.equal(norm.running_mean, before)
    out.sum().backward()
    assert norm.bias.grad is not None


def test_tolerant_norm_is_found_by_mmcv_and_becomes_sync_bn():
    assert MODELS.get('TolerantBN') is TolerantBatchNorm2d
    cnn = pytest.importorskip('mmcv.cnn')
    name, norm = cnn.build_norm_layer({'type': 'TolerantBN', 'requires_grad': True}, 8)
    assert name == 'bn'
    assert isinstance(norm, TolerantBatchNorm2d)
    assert isinstance(nn.SyncBatchNorm.convert_sync_batchnorm(norm), nn.SyncBatchNorm)


def test_unknown_norm_names_the_known_ones():
    with pytest.raises(ValueError, match=r"norm='GN' is not one of \['BN', 'LN'\]"):
        build_norm2d('GN', 8)


def test_tokens_and_maps_are_inverse_without_a_copy():
    tokens = torch.randn(2, 12, 5)
    x = tokens_to_map(tokens, (3, 4))
    assert x.shape == (2, 5, 3, 4)
    assert torch.equal(x[1, :, 2, 3], tokens[1, 11])
    back = map_to_tokens(x)
    assert torch.equal(back, tokens)
    assert back.data_ptr() == tokens.data_ptr()


@pytest.mark.parametrize(('stride', 'new', 'scale'), [(16, 4, 4), (16, 32, 0.5), (8, 16, 0.5)])
def test_resampling_by_whole_factors_is_torch_interpolation(stride, new, scale):
    x = torch.randn(2, 3, 6, 8)
    size = (int(6 * scale), int(8 * scale))
    out = resample_map(x, stride=stride, new_stride=new, size=size)
    expected = F.interpolate(x, scale_factor=scale, mode='bilinear', align_corners=False)
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    ('stride', 'new', 'cells', 'size'),
    [(14, 16, (10, 13), (8, 11)), (14, 4, (3, 5), (10, 17)), (16, 4, (5, 7), (18, 25)),
     (14, 32, (5, 9), (3, 4)), (32, 16, (2, 3), (3, 5)), (16, 32, (5, 7), (3, 4))],
)  # fmt: skip
def test_resampling_is_pixel_exact(stride, new, cells, size):
    """A map that is linear in pixel coordinates stays so, edges repeated beyond the old map."""
    centre_y = (torch.arange(cells[0]) + 0.5) * stride
    centre_x = (torch.arange(cells[1]) + 0.5) * stride
    x = torch.stack(torch.meshgrid(centre_y, centre_x, indexing='ij'))[None]
    out = resample_map(x, stride=stride, new_stride=new, size=size)
    assert out.shape == (1, 2, *size)
    expect_y = ((torch.arange(size[0]) + 0.5) * new).clamp(centre_y[0], centre_y[-1])
    expect_x = ((torch.arange(size[1]) + 0.5) * new).clamp(centre_x[0], centre_x[-1])
    expected = torch.stack(torch.meshgrid(expect_y, expect_x, indexing='ij'))[None]
    torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-3)


def test_conv_ffn_keeps_levels_apart():
    """Changing one level's tokens changes no other level's output."""
    ffn = ConvFFN(8, 4)
    shapes = [(4, 6), (2, 3)]
    tokens = torch.randn(1, 30, 8)
    changed = tokens.clone()
    changed[:, 24:] += 1
    out, out_changed = ffn(tokens, shapes), ffn(changed, shapes)
    assert torch.equal(out[:, :24], out_changed[:, :24])
    assert not torch.allclose(out[:, 24:], out_changed[:, 24:])
    # against the definition on one level
    x = ffn.dwconv(ffn.fc1(tokens[:, :24]).transpose(1, 2).reshape(1, 4, 4, 6))
    expected = ffn.fc2(F.gelu(x.flatten(2).transpose(1, 2)))
    torch.testing.assert_close(out[:, :24], expected)


@pytest.mark.parametrize('layout', [torch.channels_last, torch.contiguous_format])
def test_the_gradient_keeps_the_layout_of_a_channels_last_map(layout):
    """`sum` and `mean` have gradients in contiguous memory."""
    x = torch.randn(2, 3, 4, 5).contiguous(memory_format=layout).requires_grad_()
    probe, seen = torch.randn(2, 3, 4, 5), []
    middle = x * 1
    middle.register_hook(seen.append)
    keep_channels_last(middle + 0).backward(probe)
    assert seen[0].is_contiguous(memory_format=layout)
    torch.testing.assert_close(x.grad, probe, rtol=0, atol=0)
    assert keep_channels_last(x.detach()).requires_grad is False
