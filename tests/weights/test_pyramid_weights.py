"""TimmPyramid's weights: all of a file or an error."""

import re

import pytest
import timm
import torch
from small_pyramids import SMALL, build, some_models
from torch import nn

from vit_dense.backbones import TimmPyramid
from vit_dense.weights import CheckpointMismatchError


def classifier(name: str, path, prefix: str = '') -> nn.Module:
    torch.manual_seed(3)
    model = timm.create_model(name, num_classes=5, **SMALL[name][0])
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.05)
    state = {prefix + key: value for key, value in model.state_dict().items()}
    torch.save({'state_dict': state, 'epoch': 3}, path)
    return model


def assert_weights_of(pyramid: TimmPyramid, source: dict) -> None:
    state = pyramid.model.state_dict()
    assert all(torch.equal(value, source[key]) for key, value in state.items())


@some_models
def test_a_classifier_s_file_loads_whole_and_once(name, tmp_path):
    source = classifier(name, tmp_path / 'a.pth').state_dict()
    pyramid = build(name, checkpoint=str(tmp_path / 'a.pth'))
    pyramid.init_weights()
    assert_weights_of(pyramid, source)
    parameter = next(pyramid.parameters())
    nn.init.zeros_(parameter)
    pyramid.init_weights()
    assert not parameter.any()


@pytest.mark.parametrize('prefix', ['module.', 'backbone.model.'])
@pytest.mark.parametrize('name', ['swin_tiny_patch4_window7_224', 'test_resnet'])
def test_what_stands_before_the_names_is_cut_off(name, prefix, tmp_path):
    source = classifier(name, tmp_path / 'a.pth', prefix).state_dict()
    pyramid = build(name, checkpoint=str(tmp_path / 'a.pth'))
    pyramid.init_weights()
    assert_weights_of(pyramid, source)


def test_the_authors_swin_file_loads(tmp_path):
    """They count a stage's downsampling to the stage before, and save tables that follow."""
    name = 'swin_tiny_patch4_window7_224'
    source = classifier(name, tmp_path / 'a.pth').state_dict()

    def as_theirs(key: str) -> str:
        key = re.sub(
            r'layers\.(\d)\.downsample', lambda m: f'layers.{int(m[1]) - 1}.downsample', key
        )
        return key.replace('head.fc.', 'head.')

    theirs = {as_theirs(key): value for key, value in source.items()}
    theirs['layers.0.blocks.0.attn.relative_position_index'] = torch.zeros(49, 49).long()
    theirs['layers.0.blocks.1.attn_mask'] = torch.zeros(64, 49, 49)
    torch.save({'model': theirs}, tmp_path / 'a.pth')
    pyramid = build(name, checkpoint=str(tmp_path / 'a.pth'))
    pyramid.init_weights()
    assert_weights_of(pyramid, source)


def test_timm_s_weights_come_through_timm(tmp_path):
    source = classifier('test_convnext', tmp_path / 'a.pth')
    torch.save({k: v for k, v in source.state_dict().items() if 'head.fc' not in k},
               tmp_path / 'a.pth')  # fmt: skip
    overlay = {'file': str(tmp_path / 'a.pth'), 'num_classes': 0}
    pyramid = build('test_convnext', pretrained=True,
                    model_kwargs={'pretrained_cfg_overlay': overlay})  # fmt: skip
    pyramid.init_weights()
    assert_weights_of(pyramid, source.state_dict())


def spoil(state: dict, how: str) -> None:
    if how == 'missing':
        del state['stages.1.blocks.0.conv_dw.weight']
    elif how == 'shape':
        state['stem.0.bias'] = torch.zeros(3)
    else:
        state['stages.0.blocks.7.conv_dw.weight'] = torch.zeros(3)


@pytest.mark.parametrize(
    ('how', 'message'),
    [
        ('missing', r'missing \(1\): stages.1.blocks.0.conv_dw.weight'),
        ('shape', r'wrong shape: stem.0.bias is \(3,\) in the file, \(24,\) in the model'),
        ('unexpected', r'unexpected \(1\): stages.0.blocks.7'),
    ],
)  # fmt: skip
def test_a_file_that_lacks_anything_is_refused_and_changes_nothing(how, message, tmp_path):
    state = classifier('test_convnext', tmp_path / 'a.pth').state_dict()
    spoil(state, how)
    torch.save(state, tmp_path / 'a.pth')
    pyramid = build('test_convnext', checkpoint=str(tmp_path / 'a.pth'))
    before = {n: p.clone() for n, p in pyramid.named_parameters()}
    with pytest.raises(CheckpointMismatchError, match=message):
        pyramid.init_weights()
    assert all(torch.equal(p, before[n]) for n, p in pyramid.named_parameters())


def test_input_channels_are_adapted_as_timm_does(tmp_path):
    source = classifier('test_convnext', tmp_path / 'a.pth')
    pyramid = build(
        'test_convnext', checkpoint=str(tmp_path / 'a.pth'), model_kwargs={'in_chans': 1}
    )
    pyramid.init_weights()
    expected = source.stem[0].weight.sum(1, keepdim=True)
    torch.testing.assert_close(pyramid.model.stem[0].weight, expected)
