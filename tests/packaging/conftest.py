"""This checkout as a wheel, installed, and installed for development."""

import shutil
from pathlib import Path

import pytest
from installs import ROOT, Install, new_environment, pip

# What `vit_dense/` holds beyond the sources, and no build may depend on.
DERIVED = shutil.ignore_patterns('__pycache__', '.mim', 'configs')


@pytest.fixture(scope='session')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources alone, in a folder that a build may write to."""
    folder = tmp_path_factory.mktemp('source') / 'checkout'
    folder.mkdir()
    for name in ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'LICENSE', 'README.md'):
        if (ROOT / name).exists():
            shutil.copy(ROOT / name, folder)
    for name in ('build_support', 'configs', 'requirements'):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns('__pycache__'))
    shutil.copytree(ROOT / 'vit_dense', folder / 'vit_dense', ignore=DERIVED)
    return folder


@pytest.fixture(scope='session')
def wheel(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of the sources."""
    folder = tmp_path_factory.mktemp('wheel')
    pip('wheel', '-q', '--no-deps', '--no-build-isolation', '-w', folder, source)
    (path,) = folder.glob('vit_dense-*.whl')
    return path


@pytest.fixture(scope='session')
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """An environment with the wheel."""
    install = new_environment(tmp_path_factory.mktemp('installed') / 'env')
    pip('--python', install.home / 'bin' / 'python', 'install', '-q', '--no-deps', wheel)
    return install


@pytest.fixture(scope='session')
def editable(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Install:
    """An environment with `pip install -e`."""
    install = new_environment(tmp_path_factory.mktemp('editable') / 'env')
    python = install.home / 'bin' / 'python'
    options = ('-q', '--no-deps', '--no-build-isolation')
    pip('--python', python, 'install', *options, '-e', source)
    return install
