"""Small trainings on one or two CPU processes, whose figures test_sharded_runner.py compares."""

import os
from collections.abc import Callable
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from families import UNWINDOWED, small_kwargs
from mmengine.dist import all_reduce, get_rank
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, MODELS, RUNNERS
from mmengine.runner import Runner
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor
from torch.utils.data import Dataset

import vit_dense  # noqa: F401 - registers
from vit_dense.engine.sharding import shard_model

PROCESSES = 2
LIMIT = timedelta(seconds=120)
_PEFT = find_spec('peft') is not None
STEPS = 4
# Token grids of 4x6, 3x3, 5x4 and 3x6: windows of 3 tokens run a block once, twice or four times.
SIZES = [(64, 96), (48, 48), (80, 64), (48, 96)]
SMALL = {'model_name': 'test_vit', 'model_kwargs': {'depth': 4}}
# Families whose blocks compute biases of their own, which checkpointing computes again.
BY_BLOCK = {'beit_base_patch16_224', 'vit_relpos_small_patch16_224'}
Changes = dict[str, Any]


@MODELS.register_module()
class Images(BaseModel):
    """Runs a backbone on each image of a batch by itself; the loss is the mean over images."""

    def __init__(self, backbone: dict[str, Any]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.backbone = MODELS.build(backbone)
        self.head = nn.Linear(1, 3)
        for parameter in self.parameters():
            if not parameter.any():
                nn.init.normal_(parameter, std=0.1)

    def forward(self, inputs: list[Tensor], mode: str) -> Any:
        scores = [self.head(_project(self.backbone(image[None])[-1])) for image in inputs]
        loss = torch.stack([(one - 1).square().mean() for one in scores]).mean()
        return {'loss': loss} if mode == 'loss' else [loss.item()]


def _project(feature: Tensor) -> Tensor:
    """Return the mean of a map, weighted by channel: a plain one is constant after a norm."""
    generator = torch.Generator().manual_seed(0)
    weights = torch.randn(feature.shape[1], generator=generator).to(feature.device)
    return (feature.mean((0, 2, 3)) * weights).sum().view(1)


@DATASETS.register_module()
class SizedImages(Dataset):
    """Random images, the same in every process."""

    def __len__(self) -> int:
        return len(SIZES)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        generator = torch.Generator().manual_seed(index)
        return {'inputs': torch.randn(3, *SIZES[index], generator=generator)}


@HOOKS.register_module()
class Record(Hook):
    """Keeps the mean loss over processes, the gradients' norm, and what is seen on the way."""

    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.norms: list[float] = []
        self.validated: list[float] = []
        self._values: list[float] = []
        self.dtypes: set[torch.dtype] = set()

    def before_train(self, runner: Runner) -> None:
        linear = runner.model.backbone.vit.model.blocks[0].mlp.fc1
        linear.register_forward_hook(lambda *_: self.dtypes.add(linear.weight.dtype))

    def after_train_iter(self, runner: Runner, outputs: dict[str, Tensor], **_: Any) -> None:
        loss = outputs['loss'].detach().clone()
        all_reduce(loss, 'mean')
        self.losses.append(loss.item())
        scalars = runner.message_hub.log_scalars
        if 'train/grad_norm' in scalars:
            self.norms.append(float(scalars['train/grad_norm'].current()))

    def after_val_iter(self, runner: Runner, outputs: list[float], **_: Any) -> None:
        self._values.append(outputs[0])

    def after_train(self, runner: Runner) -> None:
        tensors = list(runner.model.parameters())
        for state in runner.optim_wrapper.optimizer.state.values():
            tensors += [one for one in state.values() if isinstance(one, Tensor)]
        self.bytes = sum(getattr(one, '_local_tensor', one).nbytes for one in tensors)

    def after_val_epoch(self, *_: Any, **__: Any) -> None:
        loss = torch.tensor(self._values).mean()
        all_reduce(loss, 'mean')
        self.validated.append(loss.item())
        self._values.clear()


def config(work: Path, *, processes: int, sharded: bool, **changes: Any) -> Changes:
    """A training of four steps of four images each; `changes` replace entries."""
    vit = {'type': 'TimmViT', **SMALL, **changes.pop('vit', {})}
    backbone = changes.pop('backbone', {'type': 'PlainViT', 'num_maps': 2})
    loader = {
        'batch_size': len(SIZES) // processes,
        'num_workers': 0,
        'dataset': {'type': 'SizedImages'},
        'sampler': {'type': 'InfiniteSampler', 'shuffle': False},
        'collate_fn': {'type': 'pseudo_collate'},
    }
    wrapper = {
        'constructor': 'LayerDecayOptimWrapperConstructor',
        # eps keeps gradients that are rounding errors from becoming steps
        'optimizer': {'type': 'AdamW', 'lr': 1e-2, 'eps': 1e-3, 'weight_decay': 0.05},
        'paramwise_cfg': {'layer_decay_rate': 0.8},
        **changes.pop('wrapper', {}),
    }
    return {
        'model': {'type': 'Images', 'backbone': {**backbone, 'vit': vit}},
        'work_dir': str(work),
        'train_dataloader': loader,
        'train_cfg': {'by_epoch': False, 'max_iters': STEPS},
        'optim_wrapper': wrapper,
        'param_scheduler': {'type': 'PolyLR', 'by_epoch': False, 'end': STEPS, 'power': 1.0},
        'default_hooks': {
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 2},
        },
        'custom_hooks': [{'type': 'Record'}, *changes.pop('hooks', [])],
        'default_scope': 'mmengine',
        'experiment_name': str(work),
        'log_level': 'ERROR',
        'launcher': 'pytorch' if processes > 1 else 'none',
        'env_cfg': {'dist_cfg': {'backend': 'gloo'}},
        'runner_type': 'ShardedRunner' if sharded else 'Runner',
        'randomness': {'seed': 0},
        **changes,
    }


VALIDATION: Changes = {
    'val_dataloader': {
        'batch_size': 1,
        'num_workers': 0,
        'dataset': {'type': 'SizedImages'},
        'sampler': {'type': 'DefaultSampler', 'shuffle': False},
        'collate_fn': {'type': 'pseudo_collate'},
    },
    'val_cfg': {},
    'val_evaluator': [],
    'train_cfg': {'by_epoch': False, 'max_iters': STEPS, 'val_interval': 2},
}
ADAPTER = {'type': 'ViTAdapter', 'deform_num_heads': 4, 'conv_inplane': 8, 'norm': 'LN'}
AVERAGE = {'type': 'EMAHook', 'momentum': 0.3}
WINDOWS = {'window_size': 3, 'global_blocks': [3]}
CLIP = {'clip_grad': {'max_norm': 0.05}}
CASES: dict[str, Changes] = {
    'quick': {
        'wrapper': {**CLIP, 'paramwise_cfg': {'layer_decay_rate': 1.0}},
        'vit': {'window_size': 3, 'global_blocks': [1], 'model_kwargs': {'depth': 2}},
    },
    'clip': {'wrapper': CLIP, 'vit': WINDOWS},
    'adapter': {'backbone': ADAPTER, 'vit': {**WINDOWS, 'grad_checkpointing': True}},
    'average': {'hooks': [AVERAGE], **VALIDATION},
    'average of buffers': {'hooks': [{**AVERAGE, 'update_buffers': True, 'begin_iter': 2}]},
    'clip by value': {'wrapper': {'clip_grad': {'type': 'value', 'clip_value': 1e-3}}},
    'accumulate': {'wrapper': {'accumulative_counts': 2, **CLIP}},
    'frozen': {'vit': {'frozen_stages': 2}},
    'frozen entirely': {'vit': {'frozen_stages': 4}},
    'relative positions': {
        'vit': {
            'model_name': 'beit_base_patch16_224',
            'model_kwargs': {'embed_dim': 48, 'num_heads': 3, 'depth': 4, 'img_size': 64},
            'grad_checkpointing': True,
            **WINDOWS,
        }
    },
    **({'updates of low rank': {'vit': {'type': 'LoRATimmViT', 'rank': 2}}} if _PEFT else {}),
    'bfloat16': {'sharding': {'param_dtype': 'bfloat16'}, 'wrapper': CLIP, 'vit': WINDOWS},
}


def run(work: Path, *, processes: int = PROCESSES, sharded: bool = True, **changes: Any) -> Changes:
    """Train, and return what was recorded."""
    runner = RUNNERS.build(config(work, processes=processes, sharded=sharded, **changes))
    runner.train()
    record = next(one for one in runner.hooks if isinstance(one, Record))
    return {**vars(record), 'checkpoint': str(work / f'iter_{STEPS}.pth')}


def family_gradients(work: Path, names: list[str], sharded: bool = True) -> dict[str, Changes]:
    """Return the gradients of a ViT of each family after two steps on images of two sizes."""
    found = {}
    for name in names:
        torch.manual_seed(0)
        windows = {} if name in UNWINDOWED else {'window_size': 3}
        vit = {'type': 'TimmViT', 'model_name': name, 'model_kwargs': small_kwargs(name), **windows}
        model = Images({'type': 'PlainViT', 'vit': {**vit, 'grad_checkpointing': name in BY_BLOCK}})
        for parameter in model.parameters():  # a LayerScale of 1e-5 would hide wrong gradients
            nn.init.normal_(parameter, std=0.1)
        for module in model.modules():
            if isinstance(module, nn.Dropout):  # of the MLPs of relative positions
                module.p = 0.0
        data = [SizedImages()[index]['inputs'] for index in range(PROCESSES)]
        if sharded:
            shard_model(model)
            data = data[get_rank() :][:1]
        for _ in range(2):
            model.train()(data, mode='loss')['loss'].backward()
        gradients = {name: one.grad for name, one in model.named_parameters()}
        found[name] = {
            name: one.full_tensor() if isinstance(one, DTensor) else one
            for name, one in gradients.items()
        }
    return found


def work_in_process(
    index: int, folder: Path, jobs: list[tuple[str, Callable, Changes]]
) -> dict[str, Changes]:
    """Run the jobs as one of two processes; `index` is -1 in the first."""
    torch.set_num_threads(1)
    rank = index + 1
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(PROCESSES), LOCAL_RANK=str(rank))
    distributed.init_process_group(
        'gloo',
        init_method=f'file://{folder}/store',
        rank=rank,
        world_size=PROCESSES,
        timeout=LIMIT,
    )
    try:
        return {name: job(folder / name, **changes) for name, job, changes in jobs}
    finally:
        distributed.destroy_process_group()
