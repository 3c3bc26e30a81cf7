"""Each mistake in a config ends in one message before training, or does what was meant."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS
from tiny_training import tiny_config, tiny_runner
from torch import nn

import vit_dense.segmentation
from examples.streets import DemoSpec, write_demo_dataset
from vit_dense.apis import load_config, report_user_errors
from vit_dense.apis.config import build_runner
from vit_dense.engine import NormalizationCheckHook
from vit_dense.segmentation import SegCheckHook

ROOT = Path(vit_dense.__file__).parents[1]
VIT = {'type': 'TimmViT', 'model_name': 'test_vit'}
LOG_EACH_STEP = {'type': 'LoggerHook', 'interval': 1}
HEAD = {'type': 'mmseg.FCNHead', 'in_channels': 8, 'channels': 4, 'num_classes': 2}


def train(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], object]:
    """Returns what trains the tiny model after a change of its config, with the check hook."""

    def run(work: Path) -> object:
        config = tiny_config(work)
        config['default_hooks'] = {'check': {'type': 'SegCheckHook'}}
        change(config)
        return tiny_runner(work, **config).train()

    return run


def check_std(std: list[float]) -> object:
    preprocessor = MODELS.build(
        {'type': 'mmseg.SegDataPreProcessor', 'mean': [0.0] * len(std), 'std': std}
    )
    model = nn.Module()
    model.data_preprocessor = preprocessor
    state: Any = SimpleNamespace(model=model)
    return NormalizationCheckHook().before_run(state)


def check_head(**changes: Any) -> object:
    model = nn.Module()
    model.decode_head = MODELS.build({**HEAD, **changes})
    return SegCheckHook().check_model(model)


def build_head(**changes: Any) -> object:
    return build_runner(Config({'model': {'decode_head': {**HEAD, **changes}}}))


def build_adapter(kind: str, ratio: object) -> object:
    return MODELS.build({'type': kind, 'vit': VIT, 'deform_ratio': ratio, 'deform_num_heads': 4})


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    'batchsize': (
        train(lambda config: config['train_dataloader'].update(batchsize=4)),
        "train_dataloader has no argument 'batchsize'. Did you mean batch_size",
    ),
    'validation batchsize': (
        train(lambda config: config['val_dataloader'].update(batchsize=4)),
        "val_dataloader has no argument 'batchsize'. Did you mean batch_size",
    ),
    'val_interval=0': (
        train(lambda config: config['train_cfg'].update(val_interval=0)),
        'train_cfg.val_interval=0: give a whole number of at least 1. To train without validation',
    ),
    'max_iters=0': (
        train(lambda config: config['train_cfg'].update(max_iters=0)),
        'train_cfg.max_iters=0: give a whole number of at least 1.',
    ),
    'max_iters=-5': (
        train(lambda config: config['train_cfg'].update(max_iters=-5)),
        'train_cfg.max_iters=-5: give a whole number of at least 1.',
    ),
    'max_epochs=0': (
        train(lambda config: config.update(train_cfg={'by_epoch': True, 'max_epochs': 0})),
        'train_cfg.max_epochs=0: give a whole number of at least 1.',
    ),
    'intervall': (
        train(
            lambda c: c['default_hooks'].update(
                checkpoint={'type': 'CheckpointHook', 'intervall': 1}
            )
        ),
        "CheckpointHook has no argument 'intervall'. Did you mean interval",
    ),
    'unknown figure': (
        train(
            lambda config: config['default_hooks'].update(
                checkpoint={'type': 'CheckpointHook', 'save_best': 'foo'}
            )
        ),
        "default_hooks.checkpoint.save_best names 'foo', a figure of which mmengine cannot tell",
    ),
    'validation without data': (
        train(lambda config: config.update(val_dataloader=None)),
        'val_dataloader, val_cfg and val_evaluator belong together: set all three, or all to None.',
    ),
    'no dict': (
        lambda _: MODELS.build({'type': 'ViTAdapter', 'vit': 'TimmViT'}),
        "The config has 'TimmViT' where dict(type=...) of a model must be.",
    ),
    'std=0': (lambda _: check_std([0.0, 0.0, 0.0]), 'data_preprocessor.std=[0.0, 0.0, 0.0]'),
    'std<0': (lambda _: check_std([1.0, -1.0, 1.0]), 'must be positive'),
    'softmax of one channel': (
        lambda _: check_head(out_channels=1),
        'decode_head.out_channels=1 with CrossEntropyLoss(use_sigmoid=False)',
    ),
    'two channels, one map': (
        lambda _: build_head(in_channels=[8, 8], in_index=-1),
        'decode_head.in_channels=[8, 8] and in_index=-1 must name the same maps',
    ),
    'three channels, four maps': (
        lambda _: build_head(in_channels=[8] * 3, in_index=[0, 1, 2, 3]),
        'decode_head.in_channels=[8, 8, 8] and in_index=[0, 1, 2, 3] must name the same maps',
    ),
    **{
        f'patch_size={size}': (
            lambda _, size=size: MODELS.build({**VIT, 'model_kwargs': {'patch_size': size}}),
            f'model_kwargs has patch_size={size!r}: give the edge of a patch',
        )
        for size in (0, -1, True, 14.0, '16', [16, 0])
    },
    **{
        f'{kind}.deform_ratio={ratio}': (
            lambda _, kind=kind, ratio=ratio: build_adapter(kind, ratio),
            f'deform_ratio={ratio!r}: give a positive number',
        )
        for kind in ('ViTAdapter', 'ViTCoMer')
        for ratio in (-0.5, 0, True, float('nan'))
    },
}


@pytest.mark.parametrize('name', MISTAKES)
def test_a_mistake_ends_in_one_message(
    name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv('VIT_DENSE_DEBUG', raising=False)
    work, message = MISTAKES[name]
    assert report_user_errors(lambda: work(tmp_path / 'work')) == 2
    error = capfd.readouterr().err.rpartition('\nError: ')[2]
    assert message in error
    assert 'Traceback' not in error
    assert not list(tmp_path.rglob('*.pth'))


def test_what_is_right_passes(tmp_path: Path) -> None:
    check_std([1.0, 2.0, 3.0])
    sigmoid = {'type': 'mmseg.CrossEntropyLoss', 'use_sigmoid': True}
    check_head(out_channels=1, loss_decode=sigmoid)
    check_head()
    MODELS.build({**VIT, 'model_kwargs': {'patch_size': 8}})
    MODELS.build({**VIT, 'model_kwargs': {'patch_size': (8, 8)}})
    train(
        lambda config: config.update(
            val_evaluator=[{'type': 'DumpResults', 'out_file_path': str(tmp_path / 'a.pkl')}]
        )
    )(tmp_path / 'work')


def test_an_argument_that_is_passed_on_blames_who_passes_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = {'type': 'mmseg.UPerHead', 'in_channels': [8], 'in_index': [0], 'channels': 4}
    config |= {'num_classes': 2, 'chanels': 3}
    assert report_user_errors(lambda: MODELS.build(config)) == 2
    assert "UPerHead has no argument 'chanels'. Did you mean channels" in capfd.readouterr().err


CHILD = """
_base_ = {base!r}
custom_imports = dict(imports={imports!r}, allow_failed_imports=False)
model = dict(backbone=dict(type='OwnAdapter'))
train_cfg = dict(max_iters=0)
{data}"""
MODULE = """
from mmengine.registry import MODELS
from vit_dense.adapters import ViTAdapter

@MODELS.register_module()
class OwnAdapter(ViTAdapter):
    pass
"""


def run_train(folder: Path, *imports: str) -> subprocess.CompletedProcess[str]:
    """Trains with a config and a module beside it, from an empty folder elsewhere."""
    (folder / 'project').mkdir()
    (folder / 'empty').mkdir()
    base = str(ROOT / 'configs/vit_upernet_demo.py')
    data = write_demo_dataset(folder / 'data', DemoSpec(1, 1, 64, 96))
    loaders = (f'{split}_dataloader = dict(dataset=dict(data_root={str(data)!r}))\n'
               for split in ('train', 'val', 'test'))  # fmt: skip
    text = CHILD.format(base=base, imports=list(imports), data=''.join(loaders))
    (folder / 'project/child.py').write_text(text)
    (folder / 'project/own_adapter.py').write_text(MODULE)
    code = (
        'import sys; from vit_dense.apis import *\n'
        'sys.exit(report_user_errors(lambda: train_model(load_config(sys.argv[1]))))'
    )
    return subprocess.run(
        [sys.executable, '-c', code, str(folder / 'project/child.py')],
        cwd=folder / 'empty',
        env={**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'},
        text=True,
        capture_output=True,
        timeout=240,
    )


@pytest.mark.slow
def test_modules_beside_the_config_can_be_imported(tmp_path: Path) -> None:
    done = run_train(tmp_path, 'vit_dense.segmentation', 'own_adapter')
    assert done.returncode == 2, done.stderr
    assert 'train_cfg.max_iters=0' in done.stderr, 'all was built'


def test_imports_that_lack_the_task_are_named(tmp_path: Path) -> None:
    done = run_train(tmp_path, 'own_adapter')
    assert done.returncode == 2, done.stderr
    error = done.stderr.rpartition('Error: ')[2]
    assert "custom_imports lacks 'vit_dense.segmentation'" in error
    assert "imports=['vit_dense.segmentation', ...]" in error
    assert 'Traceback' not in done.stderr


@pytest.mark.parametrize('base', ['default_runtime.py', 'det_runtime.py'])
@pytest.mark.parametrize('place', ['variable', 'visualizer'])
def test_tensorboard_as_the_runtime_s_comment_says(base: str, place: str, tmp_path: Path) -> None:
    pytest.importorskip('tensorboard')
    backends = "[dict(type='LocalVisBackend'), dict(type='TensorboardVisBackend')]"
    setting = {
        'variable': f'vis_backends = {backends}',
        'visualizer': f'visualizer = dict(vis_backends={backends})',
    }[place]
    text = f'_base_ = {str(ROOT / "configs/_base_" / base)!r}\n{setting}\n'
    (tmp_path / 'child.py').write_text(text)
    if place == 'visualizer':
        loaded = Config.fromfile(tmp_path / 'child.py', import_custom_modules=False)
    else:
        loaded = load_config(str(tmp_path / 'child.py'))
    visualizer = {**loaded.visualizer, 'type': 'Visualizer', 'name': tmp_path.name}
    options = {'visualizer': visualizer, 'default_hooks': {'logger': LOG_EACH_STEP}}
    no_validation = dict.fromkeys(('val_dataloader', 'val_cfg', 'val_evaluator'))
    tiny_runner(tmp_path / 'work', **options, **no_validation).train()
    assert list(tmp_path.glob('work/*/vis_data/events.out.tfevents.*'))


def test_backends_that_the_visualizer_names_are_kept(tmp_path: Path) -> None:
    lines = [
        "vis_backends = [dict(type='LocalVisBackend')]",
        "visualizer = dict(vis_backends=[dict(type='TensorboardVisBackend')])",
    ]
    (tmp_path / 'a.py').write_text('\n'.join(lines))
    config = load_config(str(tmp_path / 'a.py'))
    assert config.visualizer.vis_backends == [{'type': 'TensorboardVisBackend'}]


def test_a_config_that_is_not_python_is_named(tmp_path: Path) -> None:
    (tmp_path / 'broken.py').write_text('a = (\n')
    (tmp_path / 'child.py').write_text("_base_ = './broken.py'\n")
    for name in ('broken', 'child'):
        with pytest.raises(
            ValueError, match=rf"{name}\.py.*'\(' was never closed in line 1, 'a = \('"
        ):
            load_config(str(tmp_path / f'{name}.py'))
