"""A user's mistake ends in its message; other errors keep their stack."""

import sys
from pathlib import Path

import pytest
import torch
from mmengine.dataset import RepeatDataset
from mmengine.optim import CosineAnnealingLR
from mmengine.registry import MODELS
from torch.utils.data import DataLoader, TensorDataset

from vit_dense.apis import load_config, report_user_errors, training
from vit_dense.apis.errors import user_message
from vit_dense.data.folder_checks import LabelRule, check_found
from vit_dense.engine.non_finite import NonFiniteError
from vit_dense.multitask import MultiTaskDataset


def mistake() -> None:
    check_found('nowhere', '.png', count=0)


def test_our_value_errors_end_as_one_message(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('VIT_DENSE_DEBUG', raising=False)
    assert report_user_errors(lambda: None) == 0
    assert report_user_errors(mistake) == 2
    text = capfd.readouterr().err
    assert "Error: No image ends in '.png' in nowhere" in text
    assert 'Traceback' not in text
    with pytest.raises(ValueError, match='No image ends in'):
        report_user_errors(mistake, debug=True)
    monkeypatch.setenv('VIT_DENSE_DEBUG', '1')
    with pytest.raises(ValueError, match='No image ends in'):
        report_user_errors(mistake)


def test_divergence_is_the_last_line_and_exit_code_1(capfd: pytest.CaptureFixture[str]) -> None:
    def diverge() -> None:
        raise NonFiniteError('Iteration 4: not finite')

    assert report_user_errors(diverge) == 1
    assert capfd.readouterr().err == '\nError: Iteration 4: not finite\n'


def test_foreign_errors_keep_their_stack() -> None:
    with pytest.raises(ValueError, match='invalid literal'):
        report_user_errors(lambda: int('x'))


def test_errors_of_data_loader_workers_are_read() -> None:
    source = training.__file__
    text = (
        'Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call '
        f'last):\n  File "{source}", line 1, in load\nValueError: The mask a.png holds 7.\nTwo.\n'
    )
    assert user_message(ValueError(text)) == 'The mask a.png holds 7.\nTwo.'
    assert user_message(ValueError(text.replace(source, 'other.py'))) is None


def test_a_warm_up_that_is_longer_than_the_training(capfd: pytest.CaptureFixture[str]) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=1.0)
    assert report_user_errors(lambda: CosineAnnealingLR(optimizer, begin=15, end=3)) == 2
    text = capfd.readouterr().err
    assert 'param_scheduler begins at step 15 and ends at step 3: ' in text
    assert 'Traceback' not in text


def test_wrappers_of_several_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    parts = {'seg': TensorDataset(torch.zeros(1))}
    data = {'type': MultiTaskDataset, 'datasets': parts}
    assert report_user_errors(lambda: RepeatDataset(data, times=2)) == 2
    assert 'repeat those in its datasets' in capfd.readouterr().err


def test_persistent_workers_without_workers(capfd: pytest.CaptureFixture[str]) -> None:
    assert report_user_errors(lambda: DataLoader([1], persistent_workers=True)) == 2
    assert 'set persistent_workers=False' in capfd.readouterr().err


def test_a_misspelt_argument_names_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    config = {'type': 'TimmViT', 'model_name': 'test_vit', 'drop_pathrate': 0.1}
    assert report_user_errors(lambda: MODELS.build(config)) == 2
    text = capfd.readouterr().err
    assert "TimmViT has no argument 'drop_pathrate'. Did you mean drop_path_rate" in text
    # Not from a config: a mistake in code, whose stack is of use.
    with pytest.raises(TypeError, match='unexpected keyword'):
        report_user_errors(lambda: LabelRule(size=1))  # type: ignore[call-arg]


def test_a_misspelt_type_names_the_nearest(capfd: pytest.CaptureFixture[str]) -> None:
    config = {'type': 'VitAdapter', 'vit': {'type': 'TimmViT', 'model_name': 'test_vit'}}
    assert report_user_errors(lambda: MODELS.build(config)) == 2
    text = capfd.readouterr().err
    assert "type='VitAdapter' is registered as no model. Did you mean ViTAdapter" in text
    with pytest.raises(KeyError):
        report_user_errors(lambda: {}['x'])


def test_a_library_that_is_absent_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / 'needs_mmseg.py').write_text(
        'raise ModuleNotFoundError("No module named \'mmseg\'", name="mmseg")'
    )
    path = tmp_path / 'config.py'
    path.write_text("custom_imports = dict(imports=['needs_mmseg'], allow_failed_imports=False)")
    monkeypatch.setattr(sys, 'path', list(sys.path))
    assert report_user_errors(lambda: load_config(str(path))) == 2
    assert 'Error: mmseg is not installed, which this config needs' in capfd.readouterr().err


VIT = {'type': 'TimmViT', 'model_name': 'test_vit'}
ADAPTER = {'type': 'ViTAdapter', 'vit': VIT, 'deform_num_heads': 4}


@pytest.mark.parametrize(
    ('config', 'message'),
    [
        (ADAPTER | {'interaction_indexes': 3}, "'int' object is not iterable\nCorrect vit="),
        (
            ADAPTER | {'n_points': 1.5},
            'combination of arguments - got (tuple, dtype=NoneType, device=NoneType), but '
            "expected one of:\nCorrect vit={'type': 'TimmViT', 'model_name': 'test_vit'}, deform",
        ),
        (
            ADAPTER | {'vit': VIT | {'global_blocks': 1}},
            "'int' object is not iterable\nCorrect model_name='test_vit', global_blocks=1",
        ),
        (ADAPTER | {'vit': {'model_name': 'a'}}, "lacks type=...: {'model_name': 'a'}"),
        (ADAPTER | {'type': 3}, 'The config has type=3'),
        ({'type': 'ViTAdapter'}, "ViTAdapter lacks 'vit': add it in the config"),
        ({'type': 'mmseg.FCNHead', 'num_convs': -1}, 'FCNHead does not accept its arguments'),
    ],
)
def test_what_constructors_do_not_take_is_named(
    config: dict[str, object], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    head = {'in_channels': 8, 'channels': 4, 'num_classes': 2} if 'num_convs' in config else {}
    assert report_user_errors(lambda: MODELS.build(config | head)) == 2
    assert message in capfd.readouterr().err
