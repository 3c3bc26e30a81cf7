"""Two processes train and evaluate as one does, for segmentation and detection, on CPUs."""

import pickle
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from processes import ROOT, TEST, TRAIN, losses, run, torchrun

from examples.streets import CLASSES, PALETTE, THING_CLASSES, DemoSpec, write_demo_dataset

pytestmark = pytest.mark.slow
IMAGES = 5  # of validation: two processes have three each, one of them twice
STEPS = 5

SEGMENTATION = """
_base_ = {base!r}
plain = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
dataset = dict(
    _delete_=True, type='CheckedSegDataset', data_root={data!r}, img_suffix='.png',
    metainfo=dict(classes={classes!r}, palette={palette!r}), pipeline=plain)
parts = [dict(img_path=f'images/{{one}}', seg_map_path=f'annotations/{{one}}')
         for one in ('training', 'validation')]
loss = dict(type='CrossEntropyLoss', loss_weight=1.0)
# Not batch norm, which PyTorch computes with errors of 1e-5 on CPUs (channels-last, float32).
norm = dict(type='LN2d')
model = dict(backbone=dict(norm='LN'),
             decode_head=dict(dropout_ratio=0, loss_decode=[loss], norm_cfg=norm),
             auxiliary_head=dict(dropout_ratio=0, norm_cfg=norm))
train_dataloader = dict(dataset=dict(dataset, data_prefix=parts[0]))
val_dataloader = dict(dataset=dict(dataset, data_prefix=parts[1]))
test_dataloader = val_dataloader
"""
DETECTION = """
_base_ = {base!r}
dataset = dict(
    type='CheckedCocoDataset', data_root={data!r}, metainfo=dict(classes={classes!r}),
    ann_file='annotations/instances_validation.json', data_prefix=dict(img='images/validation'))
plain = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations', with_bbox=True),
         dict(type='Resize', scale=(96, 64)), dict(type='PackDetInputs')]
train_dataloader = dict(dataset=dict(
    dataset, pipeline=plain, filter_cfg=dict(filter_empty_gt=False), _delete_=True))
val_dataloader = dict(dataset=dict(
    dataset, pipeline=plain, test_mode=True, _delete_=True))
test_dataloader = val_dataloader
val_evaluator = dict(ann_file={data!r} + '/annotations/instances_validation.json')
test_evaluator = val_evaluator
model = dict(
    backbone=dict(vit=dict(_delete_=True, type='TimmViT', model_name='test_vit'),
                  deform_num_heads=4, norm='LN'),
    neck=dict(in_channels=[64] * {maps}), bbox_head=dict(num_classes=3),
    test_cfg=dict(score_thr=0.0))
default_hooks = dict(checkpoint=dict(save_best=None))
"""
COMMON = """
for one in (train_dataloader, val_dataloader):
    one.update(num_workers=0, persistent_workers=False)
train_dataloader['batch_size'] = 4
# Not AdamW, which enlarges rounding errors of small gradients to whole steps.
optim_wrapper = dict(
    _delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.002, momentum=0.9))
param_scheduler = []
train_cfg = dict(max_iters=5, val_interval=5)
"""


def write_config(kind: str, folder: Path) -> Path:
    data = write_demo_dataset(folder / 'data', DemoSpec(6, IMAGES, 64, 96))
    values: dict[str, Any] = {'data': str(data)}
    if kind == 'segmentation':
        text, base = SEGMENTATION, 'vit_upernet_demo.py'
        values |= {'classes': CLASSES, 'palette': PALETTE}
    else:
        text, base = DETECTION, 'vit_atss_bccd.py'
        values |= {'classes': THING_CLASSES, 'maps': 3}
    path = folder / 'small.py'
    path.write_text(text.format(base=str(ROOT / 'configs' / base), **values) + COMMON)
    return path


@pytest.fixture(scope='module', params=['segmentation', 'detection'])
def project(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one training by one process and one by two, at the same global batch."""
    folder = tmp_path_factory.mktemp(request.param)
    config = write_config(request.param, folder)
    options = ['--seed', 0, '--cfg-options', 'default_hooks.logger.interval=1']
    one = run(TRAIN, config, '--work-dir', 'one', *options, cwd=folder)
    assert one.returncode == 0, one.stderr
    two = torchrun(
        TRAIN,
        config,
        '--launcher',
        'pytorch',
        '--work-dir',
        'two',
        *options,
        'train_dataloader.batch_size=2',
        cwd=folder,
    )
    assert two.returncode == 0, two.stderr
    return folder


def test_two_processes_reach_the_weights_of_one(project: Path) -> None:
    """The samplers give process r of n every n-th sample from r on: the same batches together."""
    one, two = (torch.load(project / name / 'iter_5.pth')['state_dict'] for name in ('one', 'two'))
    assert one.keys() == two.keys()
    # Relative for weights above 1: a bias of the stem reaches 5.
    differences = {
        name: ((one[name] - two[name]).abs() / one[name].abs().clamp(min=1)).max().item()
        for name in one
    }
    assert max(differences.values()) < 1e-5, max(differences.items(), key=lambda item: item[1])
    assert losses(project / 'two') == pytest.approx(losses(project / 'one'), abs=1e-5)
    assert len(losses(project / 'two')) == STEPS


def figures(output: str) -> dict[str, float]:
    return {name: float(value) for name, value in re.findall(r'(\S+) ([\d.e-]+)', output)}


@pytest.mark.parametrize('tta', [False, True])
def test_two_processes_evaluate_as_one(project: Path, tta: bool) -> None:
    """Five images, unevenly divided: the metric, all pictures, all label maps."""
    segments = 'segmentation' in str(project)
    found = []
    for name in ('one', 'two'):
        out = f'out_{name}_{tta}' + ('' if segments else '.pkl')
        options = [project / 'small.py', project / 'one/iter_5.pth', '--work-dir', f'test_{name}']
        options += ['--out', out, '--show-dir', f'shown_{name}_{tta}'] + ['--tta'] * tta
        if name == 'one':
            done = run(TEST, *options, cwd=project)
        else:
            done = torchrun(TEST, *options, '--launcher', 'pytorch', cwd=project)
        assert done.returncode == 0, done.stderr
        found.append(figures(done.stdout.splitlines()[-1]))
        assert len(list((project / f'shown_{name}_{tta}/test').glob('*.png'))) == IMAGES
    assert found[0] == found[1]
    assert len(found[0]) >= 3
    if segments:
        assert max(found[0].values()) > 0
        first, second = (project / f'out_{name}_{tta}' for name in ('one', 'two'))
        maps = {path.name: path.read_bytes() for path in first.glob('*.png')}
        assert len(maps) == IMAGES
        assert maps == {path.name: path.read_bytes() for path in second.glob('*.png')}
    else:
        first, second = (
            pickle.loads((project / f'out_{name}_{tta}.pkl').read_bytes())
            for name in ('one', 'two')
        )
        assert [one['img_id'] for one in first] == [one['img_id'] for one in second]
        for one, two in zip(first, second, strict=True):
            assert torch.equal(one['pred_instances']['scores'], two['pred_instances']['scores'])
