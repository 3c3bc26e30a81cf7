"""The console script of an installed wheel, from a folder that knows nothing of this repository."""

import shutil
import subprocess
from pathlib import Path

import pytest
from installs import Install, clean_environment

from vit_dense.version import __version__


def run(installed: Install, cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [installed.home / 'bin' / 'vit-dense', *arguments],
        cwd=cwd,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
def test_it_runs_a_script_as_main(installed: Install, tmp_path: Path) -> None:
    text = 'import sys, mmdet.apis, vit_dense\nprint(__name__, sys.argv, vit_dense.__version__)'
    (tmp_path / 'mine.py').write_text(text)
    done = run(installed, tmp_path, 'run', 'mine.py', '--help')
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"__main__ ['mine.py', '--help'] {__version__}"


@pytest.mark.slow
def test_the_doctor_finds_nothing(installed: Install, tmp_path: Path) -> None:
    done = run(installed, tmp_path, 'doctor')
    assert done.returncode == 0, done.stdout + done.stderr
    assert f'{installed.site_packages / "vit_dense"})' in done.stdout.splitlines()[0]
    assert 'Versions were not compared' not in done.stdout


def test_the_doctor_runs_where_torch_does_not(installed: Install, tmp_path: Path) -> None:
    broken = installed.site_packages / 'torch'
    broken.mkdir()
    (broken / '__init__.py').write_text('raise OSError("no libtorch")')
    try:
        done = run(installed, tmp_path, 'doctor')
        other = run(installed, tmp_path, 'train', 'config.py')
    finally:
        shutil.rmtree(broken)
    assert done.returncode == 1
    assert 'torch cannot be imported: no libtorch\n  pip install --force-reinstall' in done.stdout
    assert other.returncode == 1
    assert other.stderr.rstrip().endswith('OSError: no libtorch')
