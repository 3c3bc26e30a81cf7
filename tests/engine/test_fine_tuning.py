"""The leaves of configs/fine_tuning: what each shows happens in a real, short training."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import METRICS
from mmengine.runner import Runner

import vit_dense.segmentation  # noqa: F401 - registers what the configs name
from examples.streets import CLASSES, PALETTE, DemoSpec, write_demo_dataset

CONFIGS = Path(__file__).parents[2] / 'configs'
WARM_UP = 2
AVERAGED = 'vit-adapter-b-augreg-ema_upernet_8xb2-cosine-160k_ade20k-512x512'
PLATEAU = 'vit-adapter-b-augreg_upernet_8xb2-plateau-160k_ade20k-512x512'
HALF = 'vit-adapter-b-dinov2-freeze6_upernet_8xb2-160k_ade20k-518x518'
LORA = 'vit-adapter-b-dinov2-lora_upernet_8xb2-160k_ade20k-518x518'
FROZEN = '../vit_adapter/vit-adapter-b-dinov2-frozen_upernet_8xb2-160k_ade20k-518x518'


class ScriptedMetric(BaseMetric):
    """mIoU values told beforehand, one for each validation; then the last one for ever."""

    def __init__(self, values: list[float]) -> None:
        super().__init__()
        self.values = list(values)

    def process(self, data_batch: Any, data_samples: Any) -> None:
        self.results.append(None)

    def compute_metrics(self, results: list) -> dict[str, float]:
        return {'mIoU': self.values.pop(0) if len(self.values) > 1 else self.values[0]}


@pytest.fixture(autouse=True)
def _scripted_metric() -> Iterator[None]:
    METRICS.register_module(module=ScriptedMetric, force=True)
    yield
    METRICS.module_dict.pop('ScriptedMetric')


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo_dataset(tmp_path_factory.mktemp('data'), DemoSpec(2, 1, 64, 80))


@pytest.fixture
def train(data: Path, tmp_path: Path) -> Callable[..., Runner]:
    """train(leaf, iterations, scores, save=interval): a real run with the leaf's settings."""

    def run(
        leaf: str,
        iterations: int,
        scores: Sequence[float] = (1.0,),
        *,
        save: int = -1,
        resume: Path | None = None,
    ) -> Runner:
        config = short(CONFIGS / 'fine_tuning' / f'{leaf}.py', data, iterations)
        config.train_cfg.val_interval = 1
        config.val_evaluator = {'type': 'ScriptedMetric', 'values': list(scores)}
        checkpoint = {'interval': save, 'max_keep_ckpts': -1, 'save_best': None, 'save_last': False}
        config.default_hooks.checkpoint.update(checkpoint)
        config.work_dir = str(tmp_path)
        if resume is not None:
            config.update(resume=True, load_from=str(resume))
        runner = Runner.from_cfg(config)
        runner.train()
        return runner

    return run


def short(leaf: Path, data: Path, iterations: int) -> Config:
    """The demo's small model and data with the leaf's way of training, squeezed in time."""
    theirs = Config.fromfile(leaf)
    config = Config.fromfile(CONFIGS / 'vit_upernet_demo.py')
    small = {'model_name': 'test_vit', 'pretrained': False, 'model_kwargs': {}}
    config.model.backbone.vit = {**theirs.model.backbone.vit, **small}
    stages = config.model.backbone.vit.get('frozen_stages', -1)
    config.model.backbone.vit.frozen_stages = stages // 2  # six blocks in place of twelve
    for head in (config.model.decode_head, config.model.auxiliary_head):
        head.update(channels=16, num_classes=len(CLASSES))
    config.optim_wrapper = theirs.optim_wrapper
    config.param_scheduler = theirs.param_scheduler
    config.param_scheduler[0].end = WARM_UP
    if 'end' in config.param_scheduler[1]:
        config.param_scheduler[1].update(begin=WARM_UP, end=iterations)
    config.custom_hooks = theirs.get('custom_hooks', [])
    config.train_cfg.max_iters = iterations
    size = (64, 64)
    config.model.data_preprocessor.size = size
    config.train_pipeline[2].scale = config.test_pipeline[1].scale = (80, 64)
    config.train_pipeline[3].crop_size = size
    for split, folder in (('train', 'training'), ('val', 'validation')):
        pipeline = config.train_pipeline if split == 'train' else config.test_pipeline
        config[f'{split}_dataloader'].update(
            batch_size=1,
            num_workers=0,
            persistent_workers=False,
            dataset={
                'type': 'CheckedSegDataset',
                'data_root': str(data),
                'img_suffix': '.png',
                'metainfo': {'classes': CLASSES, 'palette': PALETTE},
                'data_prefix': {
                    'img_path': f'images/{folder}',
                    'seg_map_path': f'annotations/{folder}',
                },
                'pipeline': pipeline,
            },
        )
    for name in ('test_dataloader', 'test_cfg', 'test_evaluator'):
        config.pop(name)
    config.default_hooks.pop('pictures')
    config.default_hooks.logger.interval = 1
    config.randomness = {'seed': 0}
    # mmengine keeps visualizers by name, and an old one writes into its own folder
    config.visualizer.name = f'visualizer {time.time_ns()}'
    return config


def logged(runner: Runner, name: str) -> list[float]:
    (path,) = Path(runner.work_dir).glob('*/vis_data/scalars.json')
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [line[name] for line in lines if name in line]


def read(runner: Runner, iteration: int) -> dict[str, Any]:
    path = Path(runner.work_dir) / f'iter_{iteration}.pth'
    return {**torch.load(path, weights_only=True), 'path': path}


def test_averaged_weights_cosine_and_clipping(train) -> None:
    steps = 5
    runner = train(AVERAGED, steps, save=1)
    rates = [rate / 6e-5 for rate in logged(runner, 'base_lr')]
    span = steps - WARM_UP
    cosine = [(1 + math.cos(math.pi * i / span)) / 2 for i in range(span)]
    assert rates[WARM_UP:] == pytest.approx(cosine, abs=1e-3)
    assert rates[0] < 1e-3, 'the warm-up'

    # the average, step by step, from the weights that were stepped
    momentum = 2e-4
    name = 'decode_head.conv_seg.bias'
    average = read(runner, 1)['ema_state_dict'][f'module.{name}'].clone()
    for step in range(1, steps + 1):
        content = read(runner, step)
        stepped = content['ema_state_dict'][f'module.{name}']  # mmengine swaps the two in files
        if step > 1:
            average = average + momentum * (stepped - average)
        torch.testing.assert_close(content['state_dict'][name], average, rtol=1e-4, atol=1e-9)
    assert not torch.equal(stepped, average)


def test_average_goes_on_after_resuming(train) -> None:
    before = read(train(AVERAGED, 3, save=3), 3)
    after = read(train(AVERAGED, 4, save=4, resume=before['path']), 4)
    name = 'decode_head.conv_seg.bias'
    average, stepped = before['state_dict'][name], after['ema_state_dict'][f'module.{name}']
    expected = average + 2e-4 * (stepped - average)
    torch.testing.assert_close(after['state_dict'][name], expected, rtol=1e-4, atol=1e-9)


def test_gradients_are_clipped_to_the_norm_that_the_leaf_names(data, tmp_path) -> None:
    leaf = CONFIGS / 'fine_tuning' / f'{AVERAGED}.py'
    config = short(leaf, data, 3)
    assert config.optim_wrapper.clip_grad == {'max_norm': 1.0}
    config.custom_hooks = []
    config.work_dir = str(tmp_path)
    for name in ('val_dataloader', 'val_cfg', 'val_evaluator'):
        config.pop(name)
    # A loss a thousand times as large has gradients beyond any norm of 1.
    for loss in config.model.decode_head.loss_decode:
        loss.loss_weight = 1000.0
    norms = []

    class Watch(Hook):
        """Sees the gradients between clipping and the step."""

        def before_train(self, runner: Runner) -> None:
            runner.optim_wrapper.optimizer.register_step_pre_hook(self.note)

        def note(self, optimizer: torch.optim.Optimizer, *_: Any) -> None:
            groups = optimizer.param_groups
            gradients = [p.grad for group in groups for p in group['params'] if p.grad is not None]
            norms.append(torch.stack([gradient.norm() for gradient in gradients]).norm().item())

    runner = Runner.from_cfg(config)
    runner.register_hook(Watch())
    runner.train()
    assert norms == pytest.approx([1.0] * 3, rel=1e-3)
    assert all(before > 10 for before in logged(runner, 'grad_norm'))


def test_rates_fall_and_training_ends_on_a_plateau(train) -> None:
    scores = [10.0, 20.0, 30.0]  # nothing is gained after the third validation
    runner = train(PLATEAU, 40, scores)
    # eight validations without a gain, then the end
    assert runner.iter == len(scores) + 8
    rates = [rate / 6e-5 for rate in logged(runner, 'base_lr')]
    # bad validations are the 4th, 5th and 6th: the 7th step is smaller, the 10th again
    assert rates[WARM_UP:6] == pytest.approx([1.0] * 4)
    assert rates[6:9] == pytest.approx([0.1] * 3)
    assert rates[9:] == pytest.approx([0.01] * 2)


@pytest.mark.slow
def test_steady_gains_train_to_the_end(train) -> None:
    runner = train(PLATEAU, 10, scores=range(1, 20))
    assert runner.iter == 10
    assert logged(runner, 'base_lr')[-1] == pytest.approx(6e-5)


@pytest.mark.parametrize(
    ('leaf', 'moving', 'resting'),
    [
        (HALF, ['blocks.3.', 'blocks.5.'], ['patch_embed.', 'pos_embed', 'blocks.0.', 'blocks.2.']),
        (
            LORA,
            ['blocks.0.attn.qkv.lora_B', 'blocks.5.mlp.fc2.lora_A'],
            ['.base_layer.', '.norm1.'],
        ),
        (FROZEN, [], ['patch_embed.', 'blocks.']),
    ],
)
def test_frozen_parts_rest_and_others_move(train, leaf, moving, resting) -> None:
    if leaf == LORA:
        pytest.importorskip('peft', reason='the extra [peft] is not installed')
    runner = train(leaf, 5, save=2)
    first, last = read(runner, 2)['state_dict'], read(runner, 4)['state_dict']
    vit = 'backbone.vit.model.'
    assert {f'{vit}pos_embed', 'decode_head.conv_seg.weight'} <= first.keys()
    moved = {name for name, tensor in first.items() if not torch.equal(tensor, last[name])}
    for part in moving:
        assert any(part in name for name in moved), part
    for part in resting:
        assert not any(part in name for name in moved if name.startswith(vit)), part
    assert any(name.startswith('backbone.spm') for name in moved), 'the adapter learns'
    assert any(name.startswith('decode_head') for name in moved)


def test_parts_have_their_own_rates(train) -> None:
    runner = train(HALF, 3)
    scale = {}
    names = {id(p): name for name, p in runner.model.named_parameters()}
    for group in runner.optim_wrapper.optimizer.param_groups:
        scale |= {names[id(p)]: group['lr_scale'] for p in group['params']}
    vit = 'backbone.vit.model.blocks'
    assert scale[f'{vit}.5.attn.qkv.weight'] == pytest.approx(0.9 * 0.1)
    assert scale[f'{vit}.3.attn.qkv.weight'] == pytest.approx(0.9**3 * 0.1)
    assert not any(name.startswith(f'{vit}.2.') for name in scale)
    assert scale['backbone.level_embed'] == 1
    assert scale['decode_head.conv_seg.weight'] == 10
