"""A training of two tasks: figures, checkpoints for each task alone, resuming, mistakes."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, MODELS, DefaultScope
from multitask_configs import (
    BACKBONE,
    TASKS,
    build_single,
    evaluation,
    joint_data,
    multitask,
    seg_data,
    training,
)

from vit_dense.apis import evaluate_model, load_model
from vit_dense.apis.config import build_runner
from vit_dense.apis.data_sources import open_sources
from vit_dense.backbones import TimmViT
from vit_dense.compat.safe_load import safe_load
from vit_dense.weights.tasks import take_task


@pytest.fixture(scope='module')
def trained(root: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    """The work directory of four steps, and the figures of the validation after them."""
    work = tmp_path_factory.mktemp('runs') / 'whole'
    runner = build_runner(training(root, work))
    runner.train()
    hub = runner.message_hub.log_scalars
    figures = {k.removeprefix('val/'): v.current() for k, v in hub.items() if k.startswith('val/')}
    return work, figures


def single(name: str, root: Path, work: Path, **backbone: Any) -> Config:
    """The ordinary config of a task."""
    task = deepcopy(TASKS[name])
    scope, _, task['type'] = task['type'].partition('.')
    data = {key: one[name] for key, one in evaluation(root).items()}
    return Config(
        {
            'default_scope': scope,
            'model': {**task, 'backbone': {**deepcopy(BACKBONE), **backbone}},
            **{f'test_{key}': one for key, one in data.items()},
            'test_cfg': {},
            'work_dir': str(work),
            'default_hooks': {
                'checkpoint_check': {'type': 'CheckpointCheckHook'},
                'check': {'type': {'mmseg': 'SegCheckHook', 'mmdet': 'DetCheckHook'}[scope]},
            },
            'experiment_name': f'{work.parent.name}_{name}',
        }
    )


def test_figures_are_those_of_both_tasks(trained: Any) -> None:
    work, figures = trained
    assert {'seg/mIoU', 'det/coco/bbox_mAP'} <= figures.keys()
    assert (work / 'best_seg_mIoU_iter_4.pth').is_file()
    log = ''.join(path.read_text() for path in work.glob('*/*.log'))
    assert 'seg.decode.loss_ce: ' in log
    assert 'det.loss_bbox: ' in log


@pytest.mark.parametrize('name', ['det', pytest.param('seg', marks=pytest.mark.slow)])
def test_the_config_of_a_task_has_the_figures_of_the_checkpoint(
    name: str, trained: Any, root: Path, tmp_path: Path
) -> None:
    work, expected = trained
    found = evaluate_model(single(name, root, tmp_path), str(work / 'iter_4.pth'))
    assert found
    for figure, value in found.items():
        assert value == pytest.approx(expected[f'{name}/{figure}'], nan_ok=True)
    predictor = load_model(single(name, root, tmp_path), work / 'iter_4.pth')
    assert len(predictor.classes) == {'seg': 3, 'det': 2}[name]


def test_both_tasks_are_tested_and_resumed_as_if_not_interrupted(
    trained: Any, root: Path, tmp_path: Path
) -> None:
    work, expected = trained
    file = str(work / 'iter_2.pth')
    runner = build_runner(training(root, tmp_path, load_from=file, resume=True))
    runner.train()
    one, other = (safe_load(path / 'iter_4.pth') for path in (work, tmp_path))
    for name, tensor in one['state_dict'].items():
        assert torch.equal(tensor, other['state_dict'][name]), name
    changed = safe_load(file)['state_dict']
    assert any(not torch.equal(t, changed[n]) for n, t in one['state_dict'].items())
    found = evaluate_model(training(root, tmp_path / 'test'), str(work / 'iter_4.pth'))
    assert found == pytest.approx({n: expected[n] for n in found}, nan_ok=True)


@pytest.mark.slow
def test_one_data_set_trains_both(root: Path, tmp_path: Path) -> None:
    config = training(root, tmp_path, iters=1)
    data = config.train_dataloader
    data.sampler, data.dataset, data.batch_size = {'type': 'InfiniteSampler'}, joint_data(root), 2
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.default_hooks.checkpoint.save_best = None
    runner = build_runner(config)
    passes: list[int] = []
    runner.model.backbone.register_forward_pre_hook(lambda _, args: passes.append(len(args[0])))
    runner.train()
    assert passes == [2]


def test_a_checkpoint_fits_no_other_model(trained: Any, root: Path, tmp_path: Path) -> None:
    file = str(trained[0] / 'iter_4.pth')
    other = single('seg', root, tmp_path)
    other.model.decode_head.update(num_classes=5)
    message = r'the tasks det, seg, of which one must fit.*det: .*; seg: '
    with pytest.raises(ValueError, match=message):
        load_model(other, file)
    with pytest.raises(ValueError, match=message):
        evaluate_model(other, file)
    wide = single('seg', root, tmp_path, vit={**BACKBONE['vit'], 'final_norm': True})
    with pytest.raises(ValueError, match=message):  # a norm that the file lacks
        load_model(wide, file)
    windows = single('det', root, tmp_path, vit={**BACKBONE['vit'], 'window_size': 2})
    with pytest.raises(ValueError, match=r'window_size=2 \(trained: None\)'):
        load_model(windows, file)
    swapped = single('det', root, tmp_path)
    swapped.test_dataloader.dataset.metainfo.classes = ('dog', 'cat')
    with pytest.raises(ValueError, match='same in another order'):
        load_model(swapped, file)
    renamed = training(root, tmp_path / 'renamed')
    renamed.test_dataloader.seg.dataset.metainfo.classes = ('ground', 'dog', 'cat')
    with pytest.raises(ValueError, match='same in another order'):
        evaluate_model(renamed, file)


@pytest.mark.slow
def test_the_backbone_serves_other_models(trained: Any, root: Path, tmp_path: Path) -> None:
    """`vit.checkpoint` takes the ViT; `load_from` the backbone, and heads that fit."""
    file = trained[0] / 'iter_4.pth'
    state = safe_load(file)['state_dict']
    vit = TimmViT('test_vit', checkpoint=str(file))
    vit.init_weights()
    for name, tensor in vit.model.state_dict().items():
        assert torch.equal(tensor, state[f'backbone.vit.model.{name}'])
    for classes, heads in ((3, True), (5, False)):
        config = single('seg', root, tmp_path, vit={**BACKBONE['vit'], 'window_size': 2})
        config.model.decode_head.num_classes = classes
        with DefaultScope.overwrite_default_scope('mmseg'):
            model = MODELS.build(config.model)
        content = safe_load(file)
        take_task(content, model, needs_heads=False)
        assert any(name.startswith('decode_head.') for name in content['state_dict']) == heads
        assert all('tasks.' not in name for name in content['state_dict'])
        name = 'backbone.vit.model.blocks.0.attn.qkv.weight'
        assert torch.equal(content['state_dict'][name], state[name])


def test_tasks_that_both_fit_are_refused() -> None:
    two = multitask('seg')
    two['tasks']['other'] = deepcopy(two['tasks']['seg'])
    both = MODELS.build(Config({'model': two}).model)
    with pytest.raises(ValueError, match='other: fits; seg: fits'):
        take_task({'state_dict': both.state_dict()}, build_single('seg', both))


@pytest.mark.slow
def test_the_order_in_a_config_does_not_matter(root: Path) -> None:
    """Written configs have their keys in alphabetical order, and trainings are resumed by them."""
    names = []
    for tasks in (('seg', 'det'), ('det', 'seg')):
        model = MODELS.build(multitask(*tasks))
        data = joint_data(root)
        data['datasets'] = {name: data['datasets'][name] for name in tasks}
        names.append([name for name, _ in model.named_parameters()])
        names.append([*DATASETS.build(data)[0]['data_samples']])
    assert names[:2] == names[2:]


def slow(*values: str) -> Any:
    return pytest.param(*values, marks=pytest.mark.slow)


def spoil(config: Config, kind: str, root: Path) -> None:
    data = config.train_dataloader
    if kind == 'classes':
        config.model.tasks.det.bbox_head.num_classes = 3
    elif kind == 'channels':
        config.model.tasks.seg.decode_head.in_channels = [8] * 4
    elif kind == 'no masks':
        data.dataset.datasets.seg.data_prefix = {'img_path': 'images/training'}
        data.dataset.datasets.seg.pipeline.pop(1)
    elif kind == 'no data':
        data.dataset.datasets.pop('det')
        data.sampler = {'type': 'TaskSampler', 'per_batch': {'seg': 3}}
    elif kind == 'ordinary data':
        steps = [{'type': f'mmseg.{one}'} for one in ('LoadAnnotations', 'PackSegInputs')]
        data.dataset = seg_data(root, type='CheckedSegDataset', pipeline=steps)
        data.sampler = {'type': 'InfiniteSampler'}
    elif kind == 'batch size':
        data.batch_size = 4
    elif kind == 'sampler':
        data.sampler = {'type': 'InfiniteSampler'}
    elif kind == 'validation':
        config.val_dataloader.pop('det')
    elif kind == 'save_best':
        config.default_hooks.checkpoint.save_best = 'mIoU'


@pytest.mark.parametrize(
    ('kind', 'message'),
    [
        ('classes', r'Task det: bbox_head\.num_classes=3, but the training data set has 2'),
        slow('channels', r'Task seg: decode_head\.in_channels'),
        ('no masks', 'Task seg: The training data set has no masks'),
        ('no data', r'tasks of the model are det, seg, .* labels of seg:'),
        slow('ordinary data', 'labels of none of them'),
        slow('batch size', r'batch_size=4.*add up to batch_size'),
        slow('sampler', 'sampler InfiniteSampler: MultiTaskDataset needs'),
        slow('validation', r"val_dataloader names \['seg'\], val_evaluator \['det', 'seg'\]"),
        slow('save_best', r"save_best='seg/mIoU'"),
    ],
)
def test_mistakes_are_told_before_training(
    kind: str, message: str, root: Path, tmp_path: Path
) -> None:
    config = training(root, tmp_path)
    spoil(config, kind, root)
    with pytest.raises(ValueError, match=message):
        build_runner(config).train()
    assert not [*tmp_path.glob('*.pth')]


@pytest.mark.slow
def test_commands_of_one_task_say_what_to_give(trained: Any, root: Path, tmp_path: Path) -> None:
    config, file = training(root, tmp_path), trained[0] / 'iter_4.pth'
    for command in (
        lambda: load_model(file),
        lambda: load_model(config, file),
        lambda: open_sources(config, ['train']),
        lambda: evaluate_model(config, str(file), out=str(tmp_path)),
    ):
        with pytest.raises(ValueError, match=r'tasks \w+, \w+, of which this takes one'):
            command()
    head = multitask()
    head['tasks']['seg']['decode_head']['in_index'] = [0, 1]
    config.model = head
    with pytest.raises(ValueError, match=r'tasks\.seg\.decode_head\.in_channels'):
        build_runner(config)
