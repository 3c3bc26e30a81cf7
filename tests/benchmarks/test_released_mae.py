"""The comparison with the released MAE, as far as it runs without that code."""

import importlib
import sys

import pytest


@pytest.fixture
def bench():
    return importlib.import_module('benchmarks.parity.released_mae')


def test_another_folder_is_refused_and_nothing_is_replaced(bench, tmp_path):
    before = dict(sys.modules)
    with pytest.raises(FileNotFoundError, match=r'no checkout of the released MAE'):
        bench.load_release(tmp_path, tmp_path)
    (tmp_path / 'models_mae.py').touch()
    with pytest.raises(FileNotFoundError, match=r'has no timm'):
        bench.load_release(tmp_path, tmp_path)
    assert before == sys.modules


def test_release_is_imported_on_its_own_timm(bench, tmp_path):
    (tmp_path / 'timm').mkdir()
    (tmp_path / 'timm/__init__.py').write_text('from torch._six import int_classes')
    (tmp_path / 'util').mkdir()
    (tmp_path / 'util/pos_embed.py').write_text('get_2d_sincos_pos_embed_from_grid = 7')
    (tmp_path / 'models_mae.py').write_text('import timm\nPATH = timm.__file__')
    ours, path = sys.modules['timm'], list(sys.path)
    try:
        models, positions = bench.load_release(tmp_path, tmp_path)
        assert str(tmp_path / 'timm/__init__.py') == models.PATH
        assert positions == 7
        assert sys.modules['timm'] is ours
        assert 'timm.models.vision_transformer' in sys.modules
    finally:
        sys.path[:] = path
        for name in ('models_mae', 'util', 'util.pos_embed', 'torch._six'):
            sys.modules.pop(name, None)
