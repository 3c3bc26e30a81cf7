"""Classes of a checkpoint against those of the data, and of training against validation."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from vit_dense.engine import CheckpointCheckHook, checkpoint_check
from vit_dense.engine.check_hook import CheckHook
from vit_dense.engine.class_names import check_class_names, check_class_order

CLASSES = ('red', 'blue')


def checkpoint(classes: tuple[str, ...]) -> dict[str, Any]:
    return {'meta': {'dataset_meta': {'classes': classes}}, 'state_dict': {}}


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []
    place = 'vit_dense.engine.class_names.print_log'
    monkeypatch.setattr(place, lambda text, **_: texts.append(text))
    return texts


@pytest.mark.parametrize('starts_training', [False, True])
@pytest.mark.parametrize(
    'found', [checkpoint(('blue', 'red')), {'meta': {'CLASSES': ['blue', 'red']}}]
)
def test_another_order_is_refused(found: dict[str, Any], starts_training: bool) -> None:
    with pytest.raises(ValueError, match='in another order') as error:
        check_class_names(found, CLASSES, starts_training=starts_training)
    assert 'checkpoint: blue, red\nconfig: red, blue\n' in str(error.value)


@pytest.mark.parametrize(
    ('classes', 'warns'), [(('cat', 'dog'), True), (('cat', 'dog', 'cow'), False)]
)
def test_other_names_are_for_new_trainings_alone(
    logged: list[str], classes: tuple[str, ...], warns: bool
) -> None:
    with pytest.raises(ValueError, match='trained with other classes'):
        check_class_names(checkpoint(classes), CLASSES)
    check_class_names(checkpoint(classes), CLASSES, starts_training=True)
    assert [('cat, dog' in text, 'red, blue' in text) for text in logged] == [(True, True)] * warns


@pytest.mark.parametrize('found', [checkpoint(CLASSES), {'meta': {}}, {'meta': {'CLASSES': None}}])
def test_same_or_unknown_classes_pass(logged: list[str], found: dict[str, Any]) -> None:
    for starts_training in (False, True):
        check_class_names(found, list(CLASSES), starts_training=starts_training)
        check_class_names(found, None, starts_training=starts_training)
    assert not logged


def test_load_from_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint_check, 'BaseLoop', SimpleNamespace)
    dataset = SimpleNamespace(metainfo={'classes': CLASSES})
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset))
    runner = SimpleNamespace(model=nn.Linear(1, 1), _resume=False, _train_loop=loop)
    load = CheckpointCheckHook().after_load_checkpoint
    state = {'state_dict': {'weight': torch.zeros(1, 1), 'bias': torch.zeros(1)}}
    load(runner, {**checkpoint(CLASSES), **state})
    with pytest.raises(ValueError, match='in another order'):
        load(runner, {**checkpoint(CLASSES[::-1]), **state})


class Hook(CheckHook):
    """The checks of both tasks alone."""

    def check_data(self, *_: Any) -> None:
        """Accept everything."""


def test_the_order_is_compared_before_training() -> None:
    loaders = [
        SimpleNamespace(dataset=SimpleNamespace(metainfo={'classes': names}))
        for names in (CLASSES, CLASSES[::-1])
    ]
    runner = SimpleNamespace(train_dataloader=loaders[0], val_dataloader=loaders[0], val_loop=1)
    runner.val_evaluator = SimpleNamespace(metrics=[])
    Hook().before_train(runner)
    runner.val_dataloader = loaders[1]
    with pytest.raises(ValueError, match='the same in another order'):
        Hook().before_train(runner)


def test_training_and_validation_need_one_order() -> None:
    def data(*classes: str) -> SimpleNamespace:
        return SimpleNamespace(metainfo={'classes': classes})

    both = SimpleNamespace(datasets=[data('red', 'blue'), data('blue', 'red')])
    for validation in (data('red', 'blue'), data('cat', 'dog'), data(), SimpleNamespace()):
        check_class_order(data('red', 'blue'), validation)
    for validation in (data('blue', 'red'), both):
        with pytest.raises(ValueError, match='the same in another order') as error:
            check_class_order(data('red', 'blue'), validation)
        assert 'training: red, blue\nvalidation: blue, red' in str(error.value)
