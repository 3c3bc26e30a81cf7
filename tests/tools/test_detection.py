"""The same tools train, resume and evaluate a detector with boxes and masks."""

import json
import pickle
import re
from pathlib import Path

import pytest
import torch
from processes import ROOT, TEST, TRAIN, losses, run

from examples.streets import THING_CLASSES, DemoSpec, write_demo_dataset

pytestmark = pytest.mark.slow
CONFIG = """
_base_ = {base!r}
small = dict(
    num_workers=0, persistent_workers=False, dataset=dict(
        type='CheckedCocoDataset', data_root={data!r}, metainfo=dict(classes={classes!r})))
train_dataloader = dict(batch_size=2, **small)
val_dataloader = small
test_dataloader = small
val_evaluator = dict(ann_file={truth!r})
test_evaluator = val_evaluator
# So short a training is sure of nothing: every guess counts.
model = dict(test_cfg=dict(rcnn=dict(score_thr=0.0)))
default_hooks = dict(logger=dict(interval=1))
train_cfg = dict(max_iters=2, val_interval=2)
"""
METRICS = {f'coco/{kind}_mAP' for kind in ('bbox', 'segm')}


@pytest.fixture(scope='module')
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty folder outside the repository after two iterations of training."""
    folder = tmp_path_factory.mktemp('project')
    data = write_demo_dataset(folder / 'data', DemoSpec(2, 3, 64, 96))
    text = CONFIG.format(
        base=str(ROOT / 'configs' / 'vit_maskrcnn_demo.py'),
        data=str(data),
        classes=THING_CLASSES,
        truth=str(data / 'annotations/instances_validation.json'),
    )
    (folder / 'small.py').write_text(text)
    done = run(TRAIN, 'small.py', '--seed', 0, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_evaluation_gives_the_metrics_of_validation(trained: Path) -> None:
    checkpoint = trained / 'work_dirs/small/iter_2.pth'
    options = ('--out', 'raw.pkl', '--show-dir', 'shown', '--work-dir', 'tested')
    done = run(TEST, 'small.py', checkpoint, *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    found = re.findall(r'(\S+) (\S+)', done.stdout.splitlines()[-1])
    printed = {name: float(value) for name, value in found}
    (scalars,) = trained.glob('work_dirs/small/*/vis_data/scalars.json')
    lines = [json.loads(line) for line in scalars.read_text().splitlines()]
    validated = next(line for line in lines if line.keys() >= METRICS)
    assert printed.keys() >= METRICS
    assert printed == {name: validated[name] for name in printed}
    results = pickle.loads((trained / 'raw.pkl').read_bytes())
    assert len(results) == len(list((trained / 'shown/test').glob('*.png'))) == 3
    assert all(len(one['pred_instances']['masks']) > 0 for one in results)


def test_stopped_training_goes_on(trained: Path) -> None:
    """With its history and its optimizer, from files that hold nothing but plain values."""
    work = trained / 'work_dirs/small'
    before = losses(work)
    options = ('train_cfg.max_iters=3', 'train_cfg.val_interval=9')
    done = run(TRAIN, 'small.py', '--resume', '--cfg-options', *options, cwd=trained)
    assert done.returncode == 0, done.stderr
    assert 'resumed epoch: 0, iter: 2' in done.stdout + done.stderr

    stopped, ended = (torch.load(work / f'iter_{n}.pth', weights_only=True) for n in (2, 3))
    assert [one['meta']['iter'] for one in (stopped, ended)] == [2, 3]
    for checkpoint, steps in ((stopped, 2), (ended, 3)):
        states = checkpoint['optimizer']['state'].values()
        assert {int(state['step']) for state in states} == {steps}
    history = [
        one['message_hub']['log_scalars']['train/loss']['log_history'] for one in (stopped, ended)
    ]
    assert torch.equal(history[1][:2], history[0])
    # The log has means over the latest steps: those before the stop count.
    assert losses(work) == [*before, pytest.approx(float(history[1].mean()))]
    assert len(history[1]) == 3
