"""The command-line tools, as processes: train, evaluate, and what a user's mistake looks like."""

import json
import re
from pathlib import Path

import cv2
import mmseg
import pytest
import torch
from processes import ROOT, TEST, TRAIN, losses, run, start, wait_for

from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset

STOCK_TRAIN = Path(mmseg.__file__).parent / '.mim' / 'tools' / 'train.py'

CONFIG = """
_base_ = {base!r}
small = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        _delete_=True, type='CheckedSegDataset', data_root={data!r}, img_suffix='.png',
        metainfo=dict(classes={classes!r}, palette={palette!r}),
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=_base_.test_pipeline))
train_dataloader = dict(batch_size=2, **small)
train_dataloader['dataset'] = dict(small['dataset'], pipeline=_base_.train_pipeline)
val_dataloader = small
test_dataloader = small
train_cfg = dict(max_iters=2, val_interval=2)
"""


def write_config(folder: Path, data: Path) -> Path:
    path = folder / 'small.py'
    base = str(ROOT / 'configs' / 'vit_upernet_demo.py')
    text = CONFIG.format(base=base, data=str(data), classes=CLASSES, palette=PALETTE)
    path.write_text(text)
    return path


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder outside the repository after two iterations of training."""
    folder = tmp_path_factory.mktemp('project')
    data = write_demo_dataset(folder / 'data', DemoSpec(1, 3, 64, 80))
    config = write_config(folder, data)
    done = run(TRAIN, config, '--seed', 0, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def validation_score(folder: Path) -> float:
    (scalars,) = folder.glob('work_dirs/small/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    return next(line['mIoU'] for line in lines if 'mIoU' in line)


def test_training_leaves_checkpoint_config_log_and_pictures(trained: Path) -> None:
    work = trained / 'work_dirs' / 'small'
    assert (work / 'iter_2.pth').is_file()
    assert (work / 'small.py').is_file()
    assert len(list((work / 'pictures' / 'val').glob('*.png'))) == 3
    assert (work / 'pictures' / 'val_iter_2.png').is_file()
    (log,) = work.glob('*/*.log')
    assert re.search(r'eta: \d:\d\d:\d\d', log.read_text())


def test_evaluation_gives_the_metric_of_validation(trained: Path) -> None:
    checkpoint = trained / 'work_dirs/small/iter_2.pth'
    options = ('--out', 'maps', '--show-dir', 'shown', '--work-dir', 'tested')
    done = run(TEST, 'small.py', checkpoint, *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    printed = re.findall(r'mIoU ([\d.]+)', done.stdout.splitlines()[-1])
    assert printed == [f'{validation_score(trained):.5g}']
    assert len(list((trained / 'maps').glob('*.png'))) == 3
    assert cv2.imread(str(trained / 'maps/00000.png'), cv2.IMREAD_UNCHANGED).shape == (64, 80)
    assert len(list((trained / 'shown/test').glob('*.png'))) == 3


@pytest.mark.slow
def test_evaluation_with_augmentation(trained: Path) -> None:
    checkpoint = trained / 'work_dirs/small/iter_2.pth'
    done = run(TEST, 'small.py', checkpoint, '--tta', '--work-dir', 'tta', cwd=trained)
    assert done.returncode == 0, done.stderr
    assert 'mIoU' in done.stdout.splitlines()[-1]


@pytest.mark.parametrize('tool', ['ours', pytest.param('stock', marks=pytest.mark.slow)])
def test_missing_data_is_one_clear_error_in_every_tool(tool: str, tmp_path: Path) -> None:
    script = STOCK_TRAIN if tool == 'stock' else TRAIN
    config = write_config(tmp_path, tmp_path / 'nowhere')
    done = run(script, config, cwd=tmp_path)
    assert 'Data set not found' in done.stderr
    assert str(tmp_path / 'nowhere' / 'images' / 'validation') in done.stderr
    assert 'make demo' in done.stderr
    if tool == 'ours':
        assert done.returncode == 2
        assert 'Traceback' not in done.stderr


def test_missing_checkpoint_is_one_clear_error(tmp_path: Path) -> None:
    demo = ROOT / 'configs' / 'vit_upernet_demo.py'
    done = run(TEST, demo, 'best.pth', cwd=tmp_path)
    assert done.returncode == 2
    assert 'Checkpoint not found: best.pth' in done.stderr
    assert 'Traceback' not in done.stderr


def test_killed_and_resumed_training_equals_an_uninterrupted_one(trained: Path) -> None:
    """Loss and weights, to the last bit, with dropout."""
    options = ['--seed', 0, '--deterministic', '--cfg-options', 'train_cfg.max_iters=4']
    options += ['default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1']
    options += ['train_cfg.val_interval=4']

    whole, halves = trained / 'whole', trained / 'halves'
    assert run(TRAIN, 'small.py', '--work-dir', whole, *options, cwd=trained).returncode == 0
    command = start(TRAIN, 'small.py', '--work-dir', halves, *options, cwd=trained)
    wait_for(halves / 'last_checkpoint', command)
    command.kill()
    command.wait()
    (halves / 'iter_4.pth').unlink(missing_ok=True)
    (halves / 'last_checkpoint').write_text(str(halves / 'iter_2.pth'))
    resumed = run(TRAIN, 'small.py', '--work-dir', halves, '--resume', *options, cwd=trained)
    assert resumed.returncode == 0, resumed.stderr

    expected, found = (torch.load(folder / 'iter_4.pth') for folder in (whole, halves))
    assert found['meta']['iter'] == expected['meta']['iter'] == 4
    for name, weight in expected['state_dict'].items():
        assert torch.equal(weight, found['state_dict'][name]), name
    assert losses(halves)[-2:] == losses(whole)[-2:]
