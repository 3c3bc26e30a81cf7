"""`vit_dense::` bases: found without a folder, and without a registry scope."""

from pathlib import Path

import pytest
from mmengine.config import Config

from vit_dense.compat import config_paths
from vit_dense.compat.config_paths import config_path


def test_nothing_inherited_is_marked_with_a_scope(tmp_path: Path) -> None:
    mine = tmp_path / 'mine.py'
    mine.write_text("_base_ = 'vit_dense::vit_upernet_ade20k.py'\nlog_level = 'ERROR'\n")
    config = Config.fromfile(mine, import_custom_modules=False)
    assert config.log_level == 'ERROR'
    assert '_scope_' not in config.pretty_text
    flagship = Config.fromfile(
        config_path('vit_upernet_ade20k.py'), import_custom_modules=False
    ).to_dict()
    assert config.to_dict() == flagship | {'log_level': 'ERROR'}


def test_other_bases_are_found_as_before(tmp_path: Path) -> None:
    pytest.importorskip('mmseg')
    (tmp_path / 'near.py').write_text('a = 1')
    mine = tmp_path / 'mine.py'
    mine.write_text("_base_ = ['near.py', 'mmseg::_base_/schedules/schedule_20k.py']")
    config = Config.fromfile(mine)
    assert config.a == 1
    assert config.optimizer._scope_ == 'mmseg'


def test_unknown_config_is_told(tmp_path: Path) -> None:
    mine = tmp_path / 'mine.py'
    mine.write_text("_base_ = 'vit_dense::vit_upernet_ade.py'")
    with pytest.raises(ValueError, match=r"no config 'vit_upernet_ade\.py': did you mean .*ade20k"):
        Config.fromfile(mine)


@pytest.mark.parametrize('folder', ['site-packages', 'vendored'])
def test_stray_files_beside_an_installed_package_are_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str
) -> None:
    package = tmp_path / folder / 'vit_dense'
    theirs, ours = package.parent / 'configs', package / '.mim' / 'configs'
    for configs in (theirs, ours):
        configs.mkdir(parents=True)
        (configs / 'a.py').touch()
    (package.parent / 'setup.py').touch()
    if folder == 'site-packages':  # nothing installed is a checkout, whatever else is there
        (package.parent / 'build_support').mkdir()
        (package.parent / 'build_support' / 'flatten_configs.py').touch()
        (theirs / 'vit_upernet_ade20k.py').touch()
    monkeypatch.setattr(config_paths, '_PACKAGE', package)
    assert config_path('a.py') == ours / 'a.py'


def test_checkout_uses_the_files_themselves() -> None:
    root = Path(__file__).parents[2]
    assert config_path('vit_upernet_ade20k.py') == root / 'configs' / 'vit_upernet_ade20k.py'
