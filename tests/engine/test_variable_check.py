"""A variable that stock tools leave without effect is named, with the place that counts."""

from pathlib import Path

import pytest
from leaves import CONFIGS
from mmengine.config import Config

from vit_dense.compat import config_variables
from vit_dense.engine import variable_check
from vit_dense.engine.variable_check import check_variables


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    told: list[str] = []
    monkeypatch.setattr(variable_check, 'print_log', lambda text, **_: told.append(text))
    return told


@pytest.mark.parametrize(
    ('line', 'place'),
    [
        ('crop_size = (64, 64)', 'train_dataloader.dataset.pipeline.3.crop_size=(512, 512)'),
        ("data_root='x'", "train_dataloader.dataset.data_root='data/ade/ADEChallengeData2016'"),
        ('num_classes = 3', 'model.decode_head.num_classes=150'),
    ],
)
def test_variable_without_effect(
    line: str, place: str, tmp_path: Path, warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / 'child.py'
    path.write_text(f"_base_ = '{CONFIGS / 'vit_upernet_ade20k.py'}'\n{line}\n")
    check_variables(Config.fromfile(path, import_custom_modules=False))
    assert warnings == []
    # As stock mmengine reads it.
    monkeypatch.setattr(Config, '_file2dict', staticmethod(config_variables._file2dict))
    config = Config.fromfile(path, import_custom_modules=False)
    check_variables(config)
    assert place in warnings[0]
    # A config that sets the place is as its author means it.
    path.write_text(path.read_text().replace(line, 'log_level = "INFO"'))
    config = Config.fromfile(path, import_custom_modules=False)
    config.train_dataloader.dataset.data_root = 'elsewhere'
    config.model.decode_head.num_classes = config.model.auxiliary_head.num_classes = 3
    count = len(warnings)
    check_variables(config)
    assert len(warnings) == count


def test_size_of_the_preprocessor(tmp_path: Path, warnings: list[str]) -> None:
    path = tmp_path / 'child.py'
    path.write_text(
        "_base_ = 'vit_dense::vit_upernet_camvid.py'\n"
        'crop_size = (64, 64)\nmodel = dict(data_preprocessor=dict(size=(32, 32)))\n'
    )
    check_variables(Config.fromfile(path, import_custom_modules=False))
    assert [text.partition(' counts')[0] for text in warnings] == [
        'The config sets crop_size=(64, 64), but model.data_preprocessor.size=(32, 32)'
    ]
    check_variables(Config({'crop_size': (1, 1)}))
