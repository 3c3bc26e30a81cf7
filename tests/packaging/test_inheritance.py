"""Other projects inherit our configs, from folders that know nothing of this repository."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import mmdet
import mmseg
import pytest
from installs import ROOT, Install

from examples.streets import write_demo_dataset

pytestmark = pytest.mark.slow
OUR_TRAIN = ROOT / 'tools' / 'train.py'

BASE = '_base_ = {base!r}\ntrain_cfg = dict(max_iters=2, val_interval=2)\n'
READ_BASE = """\
from mmengine.config import read_base

with read_base():
    from vit_dense.configs.{name} import *

train_cfg.update(max_iters=2, val_interval=2)
"""
# Small in every respect that does not matter here; same lines in both styles.
SHORT = (
    'train_dataloader.batch_size=2',
    'val_dataloader.dataset.indices=2',
    'train_dataloader.num_workers=0',
    'val_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'val_dataloader.persistent_workers=False',
)


@dataclass(frozen=True)
class Task:
    """A demo config, and the library whose own tool runs it.

    Attributes:
        name: Of the config.
        library: Folder of the installed package.
        metrics: What a validation logs.
        options: Settings beside `SHORT`.
    """

    name: str
    library: Path
    metrics: tuple[str, ...]
    options: tuple[str, ...] = ()

    @property
    def stock_train(self) -> Path:
        return self.library / '.mim' / 'tools' / 'train.py'


SEGMENTATION = Task('vit_upernet_demo', Path(mmseg.__file__).parent, ('mIoU',))
# After two iterations nothing reaches a score that is usually asked for.
DETECTION = Task(
    'vit_maskrcnn_demo',
    Path(mmdet.__file__).parent,
    ('coco/bbox_mAP', 'coco/segm_mAP'),
    ('model.test_cfg.rcnn.score_thr=0.0',),
)
TASKS = (SEGMENTATION, DETECTION)


@pytest.fixture(params=TASKS, ids=['seg', 'det'])
def task(request: pytest.FixtureRequest) -> Task:
    return request.param


@pytest.fixture(scope='module')
def demo_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The drawn streets, written once."""
    folder = tmp_path_factory.mktemp('data')
    write_demo_dataset(folder / 'demo')
    return folder


@pytest.fixture
def project(tmp_path: Path, demo_data: Path) -> Path:
    """Somebody's folder: empty but for the data."""
    (tmp_path / 'data').symlink_to(demo_data)
    return tmp_path


def train(install: Install, task: Task, tool: Path, project: Path, text: str) -> None:
    (project / 'mine.py').write_text(text)
    log = install.run(tool, 'mine.py', '--cfg-options', *SHORT, *task.options, cwd=project)
    assert all(f'{name}: ' in log for name in task.metrics)
    assert (project / 'work_dirs/mine/iter_2.pth').is_file()


def test_classic_style_by_package_name(installed: Install, task: Task, project: Path) -> None:
    text = BASE.format(base=f'vit_dense::{task.name}.py')
    train(installed, task, OUR_TRAIN, project, text)


def test_read_base_under_the_stock_tool(installed: Install, task: Task, project: Path) -> None:
    train(installed, task, task.stock_train, project, READ_BASE.format(name=task.name))
    # What the runner saved as the config of this run stands alone: it says what to import.
    program = 'from mmengine.config import Config; Config.fromfile("work_dirs/mine/mine.py").model'
    installed.run('-c', program, cwd=project)


def test_classic_style_by_path(installed: Install, source: Path, task: Task, project: Path) -> None:
    # From the sources that were installed: the checkout may have moved on since.
    shutil.copytree(source / 'configs', project / 'copied')
    text = BASE.format(base=f'copied/{task.name}.py')
    train(installed, task, task.stock_train, project, text)


def test_editable_install(editable: Install, source: Path, project: Path) -> None:
    for task in TASKS:
        (project / f'classic_{task.name}.py').write_text(
            BASE.format(base=f'vit_dense::{task.name}.py')
        )
        (project / f'lazy_{task.name}.py').write_text(READ_BASE.format(name=task.name))
    program = f"""
from mmengine.config import Config
names = {[task.name for task in TASKS]}
# First: nothing of ours is imported before.
lazy = [Config.fromfile('lazy_' + name + '.py') for name in names]
import vit_dense
classic = [Config.fromfile('classic_' + name + '.py') for name in names]
assert [repr(one.to_dict()) for one in lazy] == [repr(one.to_dict()) for one in classic]
print(vit_dense.__file__)
"""
    printed = editable.run('-c', program, cwd=project)
    assert Path(printed.strip()) == source / 'vit_dense' / '__init__.py'
