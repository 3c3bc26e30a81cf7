"""Environments of their own for installs of this checkout; they share our dependencies."""

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Install:
    """An environment with the package in it."""

    home: Path

    @property
    def site_packages(self) -> Path:
        return next(self.home.glob('lib/python*/site-packages'))

    def run(self, *args: str | Path, cwd: Path) -> str:
        """Runs Python there and returns what it prints; fails with it, too."""
        done = subprocess.run(
            [self.home / 'bin' / 'python', '-W', 'ignore', *args],
            cwd=cwd,
            env=clean_environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=300,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr


def clean_environment() -> dict[str, str]:
    """Ours without what would let the checkout be found; one thread, as tests share the cores."""
    hidden = {'PYTHONPATH', 'VIRTUAL_ENV'}
    kept = {key: value for key, value in os.environ.items() if key not in hidden}
    return kept | {'OMP_NUM_THREADS': '1', 'PIP_DISABLE_PIP_VERSION_CHECK': '1'}


def pip(*args: str | Path) -> None:
    """Runs pip without network, and without its own build environment."""
    done = subprocess.run(
        [sys.executable, '-m', 'pip', *args],
        env=clean_environment() | {'PIP_NO_INDEX': '1'},
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def new_environment(home: Path) -> Install:
    """An empty environment that finds our dependencies, after anything installed into it."""
    venv.create(home)
    install = Install(home)
    shared = sysconfig.get_path('purelib')
    (install.site_packages / 'zz_shared.pth').write_text(f'{shared}\n')
    return install
