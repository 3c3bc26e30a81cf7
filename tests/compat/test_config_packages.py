"""Inheritance across packages: where mmengine looks for a package's configs."""

import os
from importlib import metadata
from pathlib import Path

import pytest
from mmengine.config.utils import MODULE2PACKAGE, _get_package_and_cfg_path
from mmengine.utils import get_installed_path, is_installed

import vit_dense
from vit_dense.compat import config_packages


def test_our_package_is_found_where_the_code_lies() -> None:
    package, path = _get_package_and_cfg_path('vit_dense::vit_adapter/x.py')
    assert path == 'vit_adapter/x.py'
    # mmengine installs a package that it does not recognise, over the network.
    assert is_installed(package)
    assert vit_dense.__file__ is not None
    assert os.path.samefile(get_installed_path(package), os.path.dirname(vit_dense.__file__))


def test_a_distribution_elsewhere_does_not_mislead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An editable install: metadata lies in site-packages, the code does not."""
    info = tmp_path / 'vit_dense-9.9.dist-info'
    info.mkdir()
    (info / 'METADATA').write_text('Metadata-Version: 2.1\nName: vit-dense\nVersion: 9.9\n')
    (info / 'top_level.txt').write_text('vit_dense\n')
    monkeypatch.syspath_prepend(str(tmp_path))
    assert metadata.version('vit_dense') == '9.9'
    found = get_installed_path(MODULE2PACKAGE['vit_dense'])
    assert vit_dense.__file__ is not None
    assert os.path.samefile(found, os.path.dirname(vit_dense.__file__))


def test_forks_map_to_their_import_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`onedl-mmsegmentation` provides `mmseg`, but no distribution `mmsegmentation`."""
    table = dict(MODULE2PACKAGE, mmseg='mmsegmentation', mmdet='mmdet', mmaction='mmaction2')
    monkeypatch.setattr(config_packages, 'MODULE2PACKAGE', table)
    real = metadata.distribution

    def without_openmmlab(name: str) -> metadata.Distribution:
        if name.startswith('mm'):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(config_packages, 'distribution', without_openmmlab)
    config_packages.install()
    assert table['mmseg'] == 'mmseg'
    assert table['mmaction'] == 'mmaction2', 'not installed under any name: left as it was'
    mmseg = pytest.importorskip('mmseg')
    assert is_installed(table['mmseg'])
    assert os.path.samefile(get_installed_path(table['mmseg']), os.path.dirname(mmseg.__file__))


def test_stock_packages_keep_their_rows() -> None:
    assert MODULE2PACKAGE['mmseg'] == 'mmsegmentation'
    assert MODULE2PACKAGE['mmdet'] == 'mmdet'
