"""mmseg's DPTHead on pairs of `PlainViT`: the paper's formulas, grids of any size."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmseg.registry import MODELS
from torch import Tensor

import vit_dense.segmentation  # noqa: F401 - registers
from vit_dense.backbones import PlainViT

WIDTH = 8
Pair = tuple[Tensor, Tensor]


def head(readout: str = 'project', width: int = WIDTH, **options: Any) -> Any:
    """A head with random values everywhere."""
    config = {'channels': 6, 'num_classes': 3, 'post_process_channels': [4, 5, 6, 7]} | options
    config |= {'embed_dims': width, 'in_channels': [width] * 4, 'in_index': [0, 1, 2, 3]}
    config |= {'input_transform': 'multiple_select', 'readout_type': readout}
    model = MODELS.build({'type': 'DPTHead', **config})
    for name, values in model.state_dict().items():
        if values.is_floating_point():
            values.uniform_(0.5, 1.5) if 'running_var' in name else values.normal_(std=0.3)
    return model.eval()


def pairs(h: int, w: int, batch: int = 2) -> list[Pair]:
    return [(torch.randn(batch, WIDTH, h, w), torch.randn(batch, WIDTH)) for _ in range(4)]


def residual_unit(unit: torch.nn.Module, x: Tensor) -> Tensor:
    found = x
    for layer in (unit.conv1, unit.conv2):
        found = layer.bn(F.conv2d(found.relu(), layer.conv.weight, padding=1))
    return x + found


def by_paper(model: Any, taps: list[Pair]) -> Tensor:
    """Section 3 of the paper, for even grids: read, reassemble, fuse from coarse to fine."""
    maps = []
    for i, (x, cls) in enumerate(taps):
        read, project = model.reassemble_blocks.readout_projects[i][0], model.convs[i].conv
        joined = torch.cat([x, cls[:, :, None, None].expand_as(x)], 1).movedim(1, -1)
        x = F.gelu(joined @ read.weight.T + read.bias).movedim(-1, 1)
        reduce, rescale = (
            part[i]
            for part in (model.reassemble_blocks.projects, model.reassemble_blocks.resize_layers)
        )
        x = rescale(F.conv2d(x, reduce.conv.weight, reduce.conv.bias))
        maps.append(F.conv2d(x, project.weight, padding=1))
    x = torch.zeros_like(maps[3])
    for i, skip in enumerate(reversed(maps)):
        block = model.fusion_blocks[i]
        x = skip if i == 0 else x + residual_unit(block.res_conv_unit1, skip)
        x = residual_unit(block.res_conv_unit2, x)
        x = F.interpolate(x, scale_factor=2, mode='bilinear', align_corners=True)
        x = F.conv2d(x, block.project.conv.weight, block.project.conv.bias)
    x = model.project.bn(F.conv2d(x, model.project.conv.weight, padding=1)).relu()
    return F.conv2d(x, model.conv_seg.weight, model.conv_seg.bias)


def test_it_computes_the_paper() -> None:
    model, taps = head(), pairs(4, 6)
    with torch.no_grad():
        expected = by_paper(model, [(x.clone(), cls) for x, cls in taps])
        found = model(taps)
    assert found.shape == (2, 3, 32, 48)
    torch.testing.assert_close(found, expected)


def test_on_a_vit_without_cls_token() -> None:
    vit = {'type': 'TimmViT', 'model_name': 'test_vit'}
    vit['model_kwargs'] = {'class_token': False, 'global_pool': 'avg'}
    taps = PlainViT(vit, out_indices=(0, 2, 3, 5), output_cls_token=True)(torch.randn(2, 3, 48, 64))
    assert [token for _, token in taps] == [None] * 4
    model = head('ignore', width=64)
    given = [(x, torch.randn(2, 64)) for x, _ in taps]
    with torch.no_grad():
        torch.testing.assert_close(model(taps), model(given))


@pytest.mark.parametrize('size', [(21, 16), (20, 15)])
@pytest.mark.parametrize('level', range(3))
def test_scores_lie_over_what_they_depend_on(size: tuple[int, int], level: int) -> None:
    """To half a patch, from corner to corner; with positive weights, gradients are shares."""
    model = head('ignore', norm_cfg=None)
    for parameter in model.parameters():
        parameter.data.abs_()
    maps = [torch.ones(1, WIDTH, *size, requires_grad=i == level) for i in range(4)]
    scores = F.interpolate(model([(x, None) for x in maps]), size, mode='bilinear')[0, 0]
    for share_of in (1 / 4, 1 / 2, 3 / 4):
        y, x = (int(edge * share_of) for edge in size)
        (gradient,) = torch.autograd.grad(scores[y, x], maps[level], retain_graph=True)
        share = gradient[0].sum(0) / gradient.sum()
        assert abs((share.sum(1) * torch.arange(size[0])).sum() - y) < 0.5
        assert abs((share.sum(0) * torch.arange(size[1])).sum() - x) < 0.5


def test_bfloat16_and_gradients() -> None:
    model = head(dropout_ratio=0.0).train()
    taps = pairs(5, 3)
    with torch.autocast('cpu', torch.bfloat16):
        found = model(taps)
    found.float().square().mean().backward()
    assert torch.isfinite(found).all()
    assert [name for name, p in model.named_parameters() if p.grad is None] == []
