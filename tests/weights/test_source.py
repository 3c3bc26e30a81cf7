"""Weights named in a config: the licence in the log, and the message where timm has none."""

import logging
from types import SimpleNamespace

import pytest
import timm
import torch
from mmengine.logging import MMLogger

from vit_dense.backbones import TimmPyramid, TimmViT
from vit_dense.engine.normalization_check import describe_mismatch
from vit_dense.weights import source


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(MMLogger, 'callHandlers', lambda _, r: lines.append(r))
    return lambda: '\n'.join(r.getMessage() for r in lines if r.levelno == logging.INFO)


@pytest.mark.parametrize(
    ('name', 'kwargs', 'licence'),
    [
        ('vit_small_patch16_dinov3.lvd1689m', {'depth': 1}, 'dinov3-license'),
        ('vit_base_patch16_224.mae', {'depth': 1}, 'cc-by-nc-4.0'),
        ('test_vit.r160_in1k', {}, 'apache-2.0'),
        ('test_convnext.r160_in1k', {}, 'apache-2.0'),
    ],
)
def test_licence_of_timm_s_weights(name, kwargs, licence, monkeypatch, log, tmp_path):
    weights = timm.create_model(name, num_classes=0, **kwargs).state_dict()
    monkeypatch.setattr(source, '_timm_weights', lambda *_: weights)
    kind = TimmPyramid if 'convnext' in name else TimmViT
    kind(name, pretrained=True, model_kwargs=kwargs).init_weights()
    assert f'licence of these weights: {licence}' in log()


def test_a_file_of_the_user_s_has_no_known_licence(log, tmp_path):
    torch.save(timm.create_model('test_vit').state_dict(), tmp_path / 'a.pth')
    TimmViT('test_vit.r160_in1k', checkpoint=str(tmp_path / 'a.pth')).init_weights()
    assert 'weights from file' in log()
    assert 'licence' not in log()


@pytest.mark.parametrize('channels', [3, 4])
def test_weights_of_a_pretraining_bring_its_normalisation(channels, tmp_path):
    kwargs = {'in_chans': channels}
    state = timm.create_model('test_vit', **kwargs).state_dict()
    record = {'model_name': 'test_vit', 'model_kwargs': kwargs, 'objective': 'masked pixels'}
    record |= {'mean': [51.0] * channels, 'std': [25.5] * channels}
    torch.save({'state_dict': state, 'meta': {'pretraining': record}}, tmp_path / 'mae.pth')
    vit = TimmViT('test_vit', checkpoint=str(tmp_path / 'mae.pth'), model_kwargs=kwargs)
    vit.init_weights()
    given = {name: torch.tensor(record[name]) for name in ('mean', 'std')}
    order = {'channel_conversion': channels == 3}
    model = SimpleNamespace(backbone=vit, data_preprocessor=SimpleNamespace(**given, **order))
    assert describe_mismatch(model) is None
    given['mean'] += 60
    assert 'were trained with mean=[51.0, ' in describe_mismatch(model)


def test_other_weights_under_timm_s_name_have_none(log, monkeypatch):
    weights = timm.create_model('test_vit', num_classes=0).state_dict()
    monkeypatch.setattr(source, '_timm_weights', lambda *_: weights)
    overlay = {'pretrained_cfg_overlay': {'file': 'mine.pth'}}
    TimmViT('test_vit.r160_in1k', pretrained=True, model_kwargs=overlay).init_weights()
    assert 'weights from timm' in log()
    assert 'licence' not in log()


def test_the_message_without_network_can_be_followed(monkeypatch, tmp_path):
    """A file alone, beside `pretrained=True`, would be the next error."""

    def offline(*_, **__):
        raise OSError('no network')

    vit = TimmViT('test_vit.r160_in1k', pretrained=True)
    monkeypatch.setattr(timm, 'create_model', offline)
    with pytest.raises(
        source.WeightsUnavailableError, match=r'pretrained=False and checkpoint="path\.safetensors"'
    ):
        vit.init_weights()
