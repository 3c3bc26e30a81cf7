"""The message for packages that are missing or do not fit together."""

import sys
from pathlib import Path

import pytest

from vit_dense.compat.openmmlab import require


@pytest.fixture
def without_openmmlab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first on the path, in a process that has not imported mmseg."""
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmseg']:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_installed_package_is_returned() -> None:
    assert require('mmdet').__name__ == 'mmdet'


def test_version_refusal_names_the_tested_set(without_openmmlab: Path) -> None:
    (without_openmmlab / 'mmseg.py').write_text("assert False, 'MMCV==2.2.0 is incompatible'")
    with pytest.raises(ImportError, match=r'MMCV==2\.2\.0.*mmcv-lite 2\.1\.0.*vit_dense\[seg\]'):
        require('mmseg')


def test_missing_package_names_the_extra(without_openmmlab: Path) -> None:
    (without_openmmlab / 'mmseg.py').write_text('import a_package_nobody_has')
    with pytest.raises(ImportError, match=r"'a_package_nobody_has'.*vit_dense\[seg\]"):
        require('mmseg')


def test_other_packages_are_refused() -> None:
    with pytest.raises(ValueError, match="got package 'mmpose'; allowed are mmseg, mmdet"):
        require('mmpose')
