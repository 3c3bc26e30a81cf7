"""LinearHead: by hand, and linear indeed."""

import pytest
import torch
from mmseg.registry import MODELS
from torch.nn import functional as F

from vit_dense.segmentation import LinearHead
from vit_dense.segmentation.check_hook import check_channels


def head(**options) -> LinearHead:
    model = MODELS.build({'type': 'LinearHead', 'num_classes': 3, **options})
    model.init_weights()
    torch.nn.init.normal_(model.norm.weight)
    torch.nn.init.normal_(model.norm.bias)
    model.norm.running_mean.normal_()
    model.norm.running_var.uniform_(0.5, 2)
    return model


def by_hand(model: LinearHead, x: torch.Tensor) -> torch.Tensor:
    norm = model.norm
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    weight = model.conv_seg.weight[:, :, 0, 0] * scale
    bias = model.conv_seg.bias + model.conv_seg.weight[:, :, 0, 0] @ (
        norm.bias - norm.running_mean * scale
    )
    return torch.einsum('kc,bchw->bkhw', weight, x) + bias[:, None, None]


def test_one_map_through_one_linear_layer() -> None:
    model = head(in_channels=8, in_index=1).eval()
    maps = [torch.randn(2, 4, 9, 9), torch.randn(2, 8, 5, 6)]
    with torch.no_grad():
        torch.testing.assert_close(model(maps), by_hand(model, maps[1]))


def test_several_maps_are_joined_at_the_first_ones_size() -> None:
    model = head(in_channels=[8, 4], in_index=[0, 2]).eval()
    maps = [torch.randn(2, 8, 6, 8), torch.randn(2, 99, 1, 1), torch.randn(2, 4, 3, 4)]
    joined = torch.cat([maps[0], F.interpolate(maps[2], (6, 8), mode='bilinear')], dim=1)
    with torch.no_grad():
        torch.testing.assert_close(model(maps), by_hand(model, joined))
    assert model.channels == 12
    check_channels('decode_head', model, [8, 99, 4])


def test_training_normalises_each_channel_of_the_batch() -> None:
    model = head(in_channels=4, in_index=0).train()
    x = torch.randn(3, 4, 5, 5) * torch.tensor([1.0, 10.0, 100.0, 0.1])[:, None, None]
    normed = model.norm(x)
    mean = model.norm.bias[None, :, None, None]
    assert torch.allclose(normed.mean((0, 2, 3)), mean.flatten(), atol=1e-4)
    assert torch.isfinite(model([x[:1, :, :1, :1]])).all(), 'a single token of a single image'


def test_default_weights_are_small_and_the_norm_neutral() -> None:
    model = LinearHead(64, num_classes=100, in_index=0)
    model.init_weights()
    assert model.conv_seg.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not model.conv_seg.bias.any()
    assert torch.equal(model.norm.weight, torch.ones(64))
    assert model.dropout is None


@pytest.mark.parametrize(
    'options',
    [
        {'in_channels': 8, 'in_index': [0]},
        {'in_channels': [8], 'in_index': 0},
        {'in_channels': [8, 8], 'in_index': [0, 1, 2]},
    ],
)
def test_numbers_that_do_not_match_are_refused(options) -> None:
    with pytest.raises(ValueError, match='give one number in both'):
        LinearHead(num_classes=3, **options)
