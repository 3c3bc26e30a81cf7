"""Train from a config, with the options of OpenMMLab's tools."""

import logging
from contextlib import nullcontext
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.runner import Runner

from ..compat.resuming import find_latest_checkpoint
from ..engine.out_of_memory import explain_out_of_memory
from ..engine.tracking import enable_tracking
from .config import build_runner, require_file
from .work_dir import lock_work_dir

AMP_DTYPES = ('bfloat16', 'float16')


def train_model(
    config: Config,
    *,
    resume: str | None = None,
    amp_dtype: str | None = None,
    auto_scale_lr: bool = False,
    seed: int | None = None,
    deterministic: bool = False,
    tracker: str | None = None,
) -> Runner:
    """Train, and return the runner.

    Args:
        config: From `load_config`; modified.
        resume: The checkpoint to resume from; 'auto' for the latest one in the work directory that
            is whole, or a new training if there is none; None to follow the config.
        amp_dtype: 'bfloat16' or 'float16' for mixed precision; None to follow the config.
        auto_scale_lr: Scale the learning rate from `auto_scale_lr.base_batch_size` to the actual
            batch size.
        seed: Seed of all random numbers.
        deterministic: Choose deterministic algorithms, which are slower.
        tracker: 'tensorboard', 'mlflow' or 'wandb' to record curves and pictures there.

    Raises:
        ValueError: An option contradicts the config or the machine, another training is running in
            the work directory, or all checkpoints to resume from are damaged.
    """
    if resume == 'auto':
        config.resume, config.load_from = True, None
    elif resume is not None:
        require_file(resume, 'Checkpoint to resume from')
        config.resume, config.load_from = True, resume
    if amp_dtype is not None:
        enable_amp(config, amp_dtype)
    if auto_scale_lr:
        _enable_auto_scale_lr(config)
    if tracker is not None:
        enable_tracking(config, tracker)
    asked = {'seed': seed} if seed is not None else {}
    asked |= {'deterministic': True} if deterministic else {}
    if asked:
        config.randomness = {'seed': None, **config.get('randomness', {}), **asked}
    folder = config.get('work_dir')
    with lock_work_dir(folder, config.get('launcher', 'none')) if folder else nullcontext():
        return _train(config)


def _train(config: Config) -> Runner:
    folder = config.get('work_dir')
    if config.get('resume') and not config.get('load_from') and folder:
        config.load_from = find_latest_checkpoint(folder)
    if config.get('resume') and config.get('load_from'):
        _skip_pretrained(config)
    old = sorted(Path(folder).glob('*.pth')) if folder and not config.get('resume') else []
    runner = build_runner(config)
    note = None
    if config.get('resume') and not config.get('load_from'):
        note = f'--resume: no checkpoint in {folder}. Training starts from the beginning.'
    elif old:
        note = (
            f'{folder} holds {old[-1].name} of an earlier training: this one starts from the '
            'beginning and replaces files of the same names. To continue the earlier one, stop now '
            'and give --resume.'
        )
    if note:
        print_log(note, logger='current', level=logging.WARNING)
    with explain_out_of_memory(runner):
        runner.train()
    return runner


def _skip_pretrained(config: Config) -> None:
    """Disable loading of pretrained weights, which the resumed checkpoint replaces.

    mmengine initialises the model before it resumes, and the hub may not be reachable.
    """
    model = config.get('model', {})
    vit = model.get('backbone', model).get('vit')
    if vit is not None:
        vit.update(pretrained=False, checkpoint=None)


def enable_amp(config: Config, dtype: str) -> None:
    """Turn the optimizer wrapper of `config` into one with automatic mixed precision.

    A wrapper that already is one keeps its settings.

    Raises:
        ValueError: There is no GPU, `dtype` is unknown, or the wrapper cannot be replaced.
    """
    if dtype not in AMP_DTYPES:
        raise ValueError(f'Mixed precision knows {", ".join(AMP_DTYPES)}, got {dtype!r}.')
    if not torch.cuda.is_available():
        raise ValueError(
            '--amp needs a GPU, and PyTorch sees none here. Leave it out to train in float32.'
        )
    wrapper = config.optim_wrapper
    kind = wrapper.get('type', 'OptimWrapper')
    if kind == 'AmpOptimWrapper':
        return
    if kind != 'OptimWrapper':
        raise ValueError(
            f"--amp can replace the optimizer wrapper 'OptimWrapper', but the config has {kind!r}. "
            'Set the precision in optim_wrapper instead.'
        )
    wrapper.type = 'AmpOptimWrapper'
    wrapper.dtype = dtype
    # bfloat16 has float32's range: scaling the loss is useless and would skip the first steps.
    wrapper.loss_scale = 1.0 if dtype == 'bfloat16' else 'dynamic'


def _enable_auto_scale_lr(config: Config) -> None:
    base = config.get('auto_scale_lr')
    if not base or 'base_batch_size' not in base:
        raise ValueError(
            '--auto-scale-lr needs the batch size that the learning rate was chosen for: set '
            'auto_scale_lr=dict(base_batch_size=16) in the config.'
        )
    base.enable = True
