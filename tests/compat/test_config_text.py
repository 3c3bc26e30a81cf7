"""The source of a config reads back to an equal config, and takes milliseconds to write."""

import math
import time
from pathlib import Path
from types import MappingProxyType

import pytest
from leaves import LEAVES, few, name_of
from mmengine.config import Config
from torch import nn

from vit_dense.apis.checkpoint_config import config_of_checkpoint

VALUES = {
    'single': (1,),
    'nothing': {},
    'none': None,
    'empty': ([], ()),
    'words': 'a "quoted" \'text\'\nwith two lines, \\ and é',
    'long': ['x' * 60, {'lambda': 1, 'a b': (2, [3])}, {3: 'three', 'a': -1.5e-7}],
    'limits': (math.inf, -math.inf, 10**400),
    'flag': True,
    'nested': {'a': {'b': [{'c': (1.0, 2)}] * 20}},
}


@pytest.mark.parametrize('path', few(LEAVES), ids=name_of)
def test_every_config_reads_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Config.fromfile(path)
    text = config.pretty_text
    # Without importing what it names, which other tests do.
    again = Config.fromstring(text.replace('custom_imports =', 'not_imported ='), '.py')
    again.custom_imports = again.pop('not_imported')
    assert again.to_dict() == config.to_dict()
    carried = config_of_checkpoint({'meta': {'cfg': text}}, 'a.pth')
    assert carried.to_dict() == config.to_dict()
    assert max(map(len, text.splitlines())) <= 130


def test_values_of_every_kind(tmp_path: Path) -> None:
    config = Config(VALUES)
    config.dump(tmp_path / 'a.py')
    again = Config.fromfile(tmp_path / 'a.py')
    assert again.to_dict() == VALUES
    assert again.pretty_text == config.pretty_text == (tmp_path / 'a.py').read_text()
    assert type(again.single) is tuple
    carried = config_of_checkpoint({'meta': {'cfg': config.pretty_text}}, 'a.pth')
    assert carried.to_dict() == VALUES
    text = Config({'x': math.nan}).pretty_text
    assert math.isnan(Config.fromstring(text, '.py').x)


def test_lazy_configs_and_classes(tmp_path: Path) -> None:
    path = tmp_path / 'lazy.py'
    path.write_text('from torch.optim import SGD\noptimizer = dict(type=SGD, lr=0.1)\n')
    text = Config.fromfile(path, lazy_import=True).pretty_text
    assert Config.fromstring(text, '.py').optimizer == {'type': 'torch.optim.SGD', 'lr': 0.1}
    text = Config({'act': {'type': nn.GELU}}).pretty_text
    assert Config.fromstring(text, '.py').act.type == 'torch.nn.modules.activation.GELU'


def test_what_has_no_source_is_refused() -> None:
    with pytest.raises(SyntaxError, match=r'cannot be written: .*<object'):
        Config({'x': [MappingProxyType({'a': object()})]}).pretty_text  # noqa: B018


def test_three_hundred_classes_take_no_time() -> None:
    palette = [[i % 256, i // 2, i // 3] for i in range(300)]
    metainfo = {'classes': tuple(f'class {i}' for i in range(300)), 'palette': palette}
    config = Config({f'{one}_dataloader': {'metainfo': metainfo} for one in 'abcdef'})
    start = time.process_time()
    assert len(config.pretty_text) > 50_000
    assert time.process_time() - start < 1  # yapf takes 40 s
