"""A config that normalises otherwise than the weights expect gets a warning with both."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from vit_dense.engine.normalization_check import (
    NormalizationCheckHook,
    describe_mismatch,
    describe_order,
)


class Named(nn.Module):
    """Any module with attributes."""

    def __init__(self, **attributes: object) -> None:
        super().__init__()
        for name, value in attributes.items():
            setattr(self, name, value)


def model(mean: object, std: object) -> nn.Module:
    vit = Named(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5), model_name='vit_tiny')
    preprocessor = Named(mean=mean, std=std)
    return Named(backbone=Named(vit=vit), data_preprocessor=preprocessor)


def levels(*values: float) -> torch.Tensor:
    return torch.tensor(values).view(-1, 1, 1)


HALF = levels(127.5, 127.5, 127.5)
IMAGENET = (levels(123.675, 116.28, 103.53), levels(58.395, 57.12, 57.375))


def test_agreement_is_silent() -> None:
    assert describe_mismatch(model(HALF, HALF)) is None


def test_difference_names_both_and_the_model() -> None:
    text = describe_mismatch(model(*IMAGENET))
    assert text is not None
    assert 'mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]' in text
    assert 'vit_tiny' in text
    assert 'mean=[127.5, 127.5, 127.5], std=[127.5, 127.5, 127.5]' in text


def test_no_normalisation_at_all_is_a_difference() -> None:
    text = describe_mismatch(model(None, None))
    assert text is not None
    assert 'mean=none' in text


def test_std_alone_and_number_of_channels_count() -> None:
    assert describe_mismatch(model(HALF, IMAGENET[1])) is not None
    assert describe_mismatch(model(levels(127.5), levels(127.5))) is not None


def test_wrapped_models_and_plain_backbones_are_read() -> None:
    wrapped = Named(module=model(*IMAGENET))
    assert describe_mismatch(wrapped) is not None
    plain = model(*IMAGENET)
    plain.backbone = plain.backbone.vit
    assert describe_mismatch(plain) is not None


def test_other_backbones_are_left_alone() -> None:
    other = Named(backbone=Named(), data_preprocessor=Named(mean=HALF, std=HALF))
    assert describe_mismatch(other) is None
    assert describe_mismatch(Named()) is None


def test_hook_warns_once_and_never_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    logger = MMLogger.get_instance('normalization')
    monkeypatch.setattr(MMLogger, 'get_current_instance', classmethod(lambda _: logger))
    seen: list[str] = []
    monkeypatch.setattr(logger, 'log', lambda level, text: seen.append(text))
    hook = NormalizationCheckHook()
    hook.before_train(SimpleNamespace(model=model(HALF, HALF)))
    assert seen == []
    hook.before_train(SimpleNamespace(model=model(*IMAGENET)))
    assert len(seen) == 1


def test_channels_left_in_the_loader_s_order_are_a_difference() -> None:
    given = model(HALF, HALF)
    given.data_preprocessor.channel_conversion = True
    assert describe_mismatch(given) is None
    given.data_preprocessor.channel_conversion = False
    text = describe_mismatch(given)
    assert text is not None
    assert 'vit_tiny were trained on RGB' in text


def test_nothing_is_advised_for_other_numbers_of_channels() -> None:
    four = model(levels(1, 2, 3, 4), levels(5, 6, 7, 8))
    four.backbone.vit.in_chans = 4
    assert describe_mismatch(four) is None


def test_detectors_that_leave_channels_as_they_are_loaded() -> None:
    plain = model(HALF, HALF)
    for name in ('channel_conversion', '_channel_conversion'):
        setattr(plain.data_preprocessor, name, False)
        assert 'bgr_to_rgb=True' in (describe_mismatch(plain) or '')
        delattr(plain.data_preprocessor, name)


def test_the_order_of_more_than_three_channels_is_noted() -> None:
    four = model(levels(1, 2, 3, 4), levels(5, 6, 7, 8))
    four.backbone.vit.in_chans = 4
    note = describe_order(four)
    assert note is not None
    assert 'takes 4 channels' in note
    assert 'B, G, R before the others' in note
    for channels in (1, 3):
        other = model(levels(127.5), levels(127.5))
        other.backbone.vit.in_chans = channels
        assert describe_order(other) is None
    assert describe_order(model(HALF, HALF)) is None


def test_means_of_another_number_than_the_channels_are_an_error() -> None:
    four = model(HALF, HALF)
    four.backbone.vit.in_chans = 4
    with pytest.raises(ValueError, match=r'mean=\[127.5, 127.5, 127.5\] has 3 values.*4 channels'):
        NormalizationCheckHook().before_run(SimpleNamespace(model=four))
    four.data_preprocessor.mean = four.data_preprocessor.std = levels(127.5)
    assert describe_order(four) is not None
