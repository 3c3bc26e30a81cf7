"""ViTCoMer computes what the released module computes, by outputs recorded from it.

Both tasks' released modules (https://github.com/Traffic-X/ViT-CoMer) were run once on the CPU in
float32, their compiled op replaced by the PyTorch function beside it, at the small settings below
and with the weights that `weight` makes of our names. All that is needed here are the numbers.
"""

import math
import zlib

import pytest
import torch

from vit_dense.adapters import ViTCoMer

IMAGE_SHAPE = (1, 3, 64, 96)
MRFP_RATIO = {'stages': 1.5, 'last': 0.5}


def noise(name, shape):
    """Numbers in -1..1 by integer arithmetic: no generator, the same everywhere."""
    index = torch.arange(math.prod(shape), dtype=torch.int64)
    mixed = (index * 40503 + (index // 7) * 25717 + zlib.crc32(name.encode())) % 65521
    return (mixed.double() / 32760.5 - 1).float().view(shape)


def weight(name, shape):
    """A value for every tensor of the state dict, of the size that training leaves."""
    x = noise(name, shape)
    if name.endswith('running_var'):
        return 1 + 0.5 * x
    if name.endswith('pos_embed'):  # one place like another, so that resizing does not matter
        return x[:, :1].expand(shape).contiguous()
    if name.endswith('sampling_offsets.bias'):
        return 2 * x
    if name.endswith(('gamma', 'level_embed')):
        return x
    if len(shape) == 1:
        return 1 + 0.5 * x if 'norm' in name and name.endswith('weight') else 0.2 * x
    return x * math.sqrt(3 / math.prod(shape[1:]))


def image():
    return 2 * noise('image', IMAGE_SHAPE)


def build(source):
    kwargs = {'embed_dim': 16, 'depth': 4, 'num_heads': 2, 'init_values': 1.0}
    vit = {
        'type': 'TimmViT',
        'model_name': 'vit_tiny_patch16_224',
        'model_kwargs': {**kwargs, 'class_token': False, 'global_pool': 'avg'},
    }
    model = ViTCoMer(
        vit,
        deform_num_heads=2,
        deform_ratio=0.5,
        conv_inplane=4,
        vit_feature_source=source,
        mrfp_ratio=MRFP_RATIO[source],
    ).eval()
    state = {
        name: weight(name, tuple(tensor.shape)) if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state)
    return model


def summary(x):
    """Mean, mean square, first, middle and last value of a map (1, C, h, w)."""
    channels, h, w = x.shape[1:]
    picked = [x[0, 0, 0, 0], x[0, channels // 2, h // 2, w // 2], x[0, -1, -1, -1]]
    return [x.double().mean().item(), x.double().square().mean().item(), *map(float, picked)]


# vit_feature_source -> the four maps' summaries, as the released module of that task gives them
RECORDED = {
    'stages': [
        [0.494174, 3.138950, 0.837102, 0.210329, -1.414351],
        [-0.097355, 3.842952, -1.545020, 2.233729, -1.677371],
        [-0.139947, 8.810494, -1.379112, 0.530196, -2.810671],
        [-0.201061, 4.336554, -1.160292, 1.371713, -1.491901],
    ],
    'last': [
        [-0.273191, 4.769054, 0.734676, 2.047410, -1.131055],
        [-0.284141, 5.140647, 0.544486, 1.341776, -0.326306],
        [-0.263184, 9.795728, 0.646208, 0.496220, -1.023724],
        [-0.490475, 5.154843, -4.047191, 0.683719, 0.458708],
    ],
}


@pytest.mark.parametrize('source', RECORDED)
def test_outputs_are_the_released_module_s(source):
    with torch.no_grad():
        maps = build(source)(image())
    for x, expected in zip(maps, RECORDED[source], strict=True):
        assert summary(x) == pytest.approx(expected, abs=1e-4)
