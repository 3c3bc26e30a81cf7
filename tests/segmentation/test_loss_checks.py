"""Losses that cannot teach a head its classes are named before training."""

from typing import Any

import pytest
from mmseg.models import FCNHead

from vit_dense.segmentation.loss_checks import check_losses

SIGMOID = {'type': 'CrossEntropyLoss', 'use_sigmoid': True}
SOFTMAX = {'type': 'CrossEntropyLoss', 'use_sigmoid': False}
HINGE = {'type': 'LovaszLoss', 'loss_type': 'binary', 'reduction': 'none'}
DICE = {'type': 'DiceLoss'}


def head(channels: int, *losses: dict[str, Any]) -> FCNHead:
    options = {'in_channels': 4, 'channels': 4, 'num_convs': 0, 'concat_input': False}
    loss = losses[0] if len(losses) == 1 else losses
    classes = max(2, channels)
    return FCNHead(num_classes=classes, out_channels=channels, loss_decode=loss, **options)


@pytest.mark.parametrize(
    'losses',
    [
        [SOFTMAX],
        # mmseg's turns class 0, the background, into the target of the channel.
        [DICE],
        [{'type': 'TverskyLoss'}],
        [{'type': 'LovaszLoss', 'reduction': 'none'}],
        [SIGMOID, DICE],
    ],
    ids=str,
)
def test_one_channel_that_does_not_learn_class_1(losses: list[dict[str, Any]]) -> None:
    kind = losses[-1]['type']
    with pytest.raises(ValueError, match=rf'decode_head.out_channels=1 with {kind}') as error:
        check_losses('decode_head', head(1, *losses))
    assert "loss_decode=dict(_delete_=True, type='CrossEntropyLoss', use_sigmoid=True)" in str(
        error.value
    )


@pytest.mark.parametrize(
    ('channels', 'losses'),
    [
        (1, [SIGMOID]),
        (1, [HINGE]),
        (1, [SIGMOID, HINGE]),
        (1, [SIGMOID, {**DICE, 'loss_weight': 0.0}]),
        (1, [{**SIGMOID, 'class_weight': [3.0]}]),
        (2, [SOFTMAX]),
        (3, [SIGMOID, DICE]),
        (3, [{**SOFTMAX, 'class_weight': [1.0, 2.0, 3.0]}]),
        (3, [{'type': 'TverskyLoss'}]),
    ],
    ids=str,
)
def test_losses_that_learn_pass(channels: int, losses: list[dict[str, Any]]) -> None:
    check_losses('decode_head', head(channels, *losses))


@pytest.mark.parametrize('kind', [SOFTMAX, SIGMOID, {'type': 'TverskyLoss'}], ids=str)
def test_class_weight_of_another_length(kind: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r'class_weight of .* has 2 values, .* has 3 channels'):
        check_losses('auxiliary_head', head(3, {**kind, 'class_weight': [1.0, 2.0]}))
