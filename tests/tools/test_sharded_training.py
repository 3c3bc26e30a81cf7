"""tools/train.py shards a segmentor and a detector in two processes, as DDP trains them."""

from pathlib import Path

import pytest
import torch
from processes import ROOT, TEST, TRAIN, losses, run, torchrun
from test_several_processes import write_config

from examples.streets import DemoSpec, write_demo_dataset

pytestmark = pytest.mark.slow
DETECTION = """
_base_ = {base!r}
train_dataloader = dict(batch_size=2, num_workers=0, persistent_workers=False,
                        dataset=dict(data_root={data!r}))
val_dataloader = dict(num_workers=0, persistent_workers=False, dataset=dict(data_root={data!r}))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={data!r} + '/annotations/instances_validation.json')
test_evaluator = val_evaluator
model = dict(backbone=dict(norm='LN', vit=dict(window_size=3)))
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
param_scheduler = []
train_cfg = dict(max_iters=5, val_interval=5)
default_hooks = dict(checkpoint=dict(save_best=None))
"""
SHARDED = ['runner_type=ShardedRunner']


def config_of(kind: str, folder: Path) -> Path:
    if kind == 'segmentation':
        return write_config(kind, folder)
    data = write_demo_dataset(folder / 'data', DemoSpec(6, 3, 64, 96))
    path = folder / 'small.py'
    base = str(ROOT / 'configs/vit_maskrcnn_demo.py')
    path.write_text(DETECTION.format(base=base, data=str(data)))
    return path


@pytest.mark.parametrize('kind', ['segmentation', 'detection'])
def test_sharded_equals_ddp(kind: str, tmp_path: Path) -> None:
    config = config_of(kind, tmp_path)
    options = ['--seed', 0, '--cfg-options', 'default_hooks.logger.interval=1']
    options += ['default_hooks.checkpoint.interval=3', 'train_dataloader.batch_size=2']
    for name, extra in {'ddp': [], 'sharded': SHARDED}.items():
        command = [TRAIN, config, '--launcher', 'pytorch', '--work-dir', name, *options, *extra]
        done = torchrun(*command, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert losses(tmp_path / 'sharded') == pytest.approx(losses(tmp_path / 'ddp'), abs=1e-5)
    ddp, sharded = (torch.load(tmp_path / f'{name}/iter_5.pth') for name in ('ddp', 'sharded'))
    assert list(ddp['state_dict']) == list(sharded['state_dict'])
    for name, value in ddp['state_dict'].items():
        torch.testing.assert_close(sharded['state_dict'][name], value, rtol=1e-4, atol=1e-5)

    # Its file is tested and resumed by one process, with and without the config's runner_type.
    scores = []
    for name in ('ddp', 'sharded'):
        done = run(TEST, config, f'{name}/iter_5.pth', '--cfg-options', *SHARDED, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        scores.append(done.stdout.splitlines()[-1])
    assert scores[0] == scores[1]
    resumed = [TRAIN, config, '--resume', 'sharded/iter_3.pth', '--work-dir', 'alone', *options]
    done = run(*resumed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(losses(tmp_path / 'alone')) == 2
    refused = run(*resumed, *SHARDED, cwd=tmp_path)
    assert refused.returncode == 2
    assert 'torchrun --nproc_per_node=N' in refused.stderr
