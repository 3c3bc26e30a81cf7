"""The comparison with the released code, as far as it runs without that code."""

import importlib
import sys

import pytest
import torch
from torch import nn


@pytest.fixture
def bench():
    return importlib.import_module('benchmarks.parity.released_backbones')


def test_another_folder_is_refused_and_nothing_is_replaced(bench, tmp_path):
    before = dict(sys.modules)
    with pytest.raises(FileNotFoundError, match=r'no checkout.*vit_adapter or vit_comer'):
        bench.load_release(tmp_path)
    assert before == sys.modules


def test_random_values_reach_every_tensor(bench):
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.LayerNorm(4), nn.Linear(4, 2))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    bench.randomise(model, seed=1)
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            assert not (tensor == before[name]).any(), name
    assert bool((model[1].running_var >= 1).all())
    other = nn.Sequential(*[type(model[0])(3, 4, 3)])
    bench.randomise(other, seed=1)
    assert torch.equal(other[0].weight, model[0].weight)


def test_a_release_that_differs_is_told(bench, capsys, monkeypatch):
    """Constants stand for a release and for what is ours."""

    class Constant(nn.Module):
        def __init__(self, value):
            super().__init__()
            self.value = value

        def forward(self, image):
            return [image.new_full((1,), self.value)] * 4

    monkeypatch.setattr(bench, 'build_released', lambda *_: Constant(0.0))
    monkeypatch.setattr(bench, 'build_ours', lambda *_: Constant(3e-4))
    worst = bench.print_table({('segmentation', 'ViTAdapter'): Constant}, ['T'])
    assert worst == pytest.approx(3e-4)
    assert '| T | segmentation | off | 128x192 | 3.0e-04' in capsys.readouterr().out
