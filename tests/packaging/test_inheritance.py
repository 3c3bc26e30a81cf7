"""Other projects inherit our configs, from folders that know nothing of this repository."""

import shutil
from pathlib import Path

import mmseg
import pytest
from installs import ROOT, Install

OUR_TRAIN = ROOT / 'tools' / 'train.py'
STOCK_TRAIN = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'train.py'

BASE = '_base_ = {base!r}\ntrain_cfg = dict(max_iters=2, val_interval=2)\n'
READ_BASE = """\
from mmengine.config import read_base

with read_base():
    from vit_dense.configs.vit_upernet_demo import *

train_cfg.update(max_iters=2, val_interval=2)
"""
# Small in every respect that does not matter here; same lines in both styles.
SHORT = [
    'train_dataloader.batch_size=2',
    'val_dataloader.dataset.indices=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.persistent_workers=False',
]


@pytest.fixture(scope='module')
def demo_data(installed: Install, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded data set, written once."""
    folder = tmp_path_factory.mktemp('data')
    program = 'import sys; from vit_dense.datasets import write_demo_dataset as w; w(sys.argv[1])'
    installed.run('-c', program, folder / 'demo', cwd=folder)
    return folder


@pytest.fixture
def project(tmp_path: Path, demo_data: Path) -> Path:
    """Somebody's folder: empty but for the data."""
    (tmp_path / 'data').symlink_to(demo_data)
    return tmp_path


def train(install: Install, tool: Path, project: Path, text: str) -> None:
    (project / 'mine.py').write_text(text)
    log = install.run(tool, 'mine.py', '--cfg-options', *SHORT, cwd=project)
    assert 'mIoU' in log
    assert (project / 'work_dirs/mine/iter_2.pth').is_file()


def test_classic_style_by_package_name(installed: Install, project: Path) -> None:
    train(installed, OUR_TRAIN, project, BASE.format(base='vit_dense::vit_upernet_demo.py'))


def test_read_base_under_the_stock_tool(installed: Install, project: Path) -> None:
    train(installed, STOCK_TRAIN, project, READ_BASE)
    # What the runner saved as the config of this run stands alone: it says what to import.
    program = 'from mmengine.config import Config; Config.fromfile("work_dirs/mine/mine.py").model'
    installed.run('-c', program, cwd=project)


def test_classic_style_by_path(installed: Install, project: Path) -> None:
    shutil.copytree(ROOT / 'configs', project / 'copied')
    train(installed, STOCK_TRAIN, project, BASE.format(base='copied/vit_upernet_demo.py'))


def test_editable_install(editable: Install, source: Path, project: Path) -> None:
    (project / 'classic.py').write_text(BASE.format(base='vit_dense::vit_upernet_demo.py'))
    (project / 'lazy.py').write_text(READ_BASE)
    program = """
        from mmengine.config import Config
        lazy = Config.fromfile('lazy.py')  # first: nothing of ours is imported before
        import vit_dense
        classic = Config.fromfile('classic.py')
        assert repr(lazy.to_dict()) == repr(classic.to_dict())
        print(vit_dense.__file__)
    """
    program = '\n'.join(line.strip() for line in program.splitlines())
    printed = editable.run('-c', program, cwd=project)
    assert Path(printed.strip()) == source / 'vit_dense' / '__init__.py'
