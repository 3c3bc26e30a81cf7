"""A training of mmengine's in which every source of random numbers counts, and its comparison."""

import random
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from timm.layers import DropPath
from torch.utils.data import Dataset

from vit_dense.compat.safe_load import safe_load

ITEMS = 10
BATCH = 2


@MODELS.register_module()
class NoisyModel(BaseModel):
    """Linear, batch norm, dropout, drop path; the loss also draws from numpy and random."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm1d(3)
        self.linear = torch.nn.Linear(3, 3)
        self.drop_path = DropPath(0.3)

    def forward(self, inputs: list[torch.Tensor], number: list[int], mode: str) -> Any:
        if mode != 'loss':
            return [{'loss': 0.0}]
        normed = self.norm(torch.stack(inputs))
        kept = normed + self.drop_path(torch.dropout(self.linear(normed), 0.5, self.training))
        return {'loss': (kept - np.random.rand() - random.random()).square().mean()}


@DATASETS.register_module()
class NoisyNumbers(Dataset):
    """Item i is i plus noise from three generators; counts what is read in this process."""

    metainfo: ClassVar[dict[str, Any]] = {}

    def __init__(self, items: int = ITEMS) -> None:
        self.items = items
        self.read: list[int] = []

    def __len__(self) -> int:
        return self.items

    def get_data_info(self, index: int) -> dict[str, int]:
        return {'width': 1 + index % 3, 'height': 2}

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read.append(index)
        noise = torch.tensor([random.random(), np.random.rand(), torch.rand(()).item()])
        return {'inputs': index / self.items + noise, 'number': index}


def noisy_config(work: Path, *, workers: int = 0, **changes: Any) -> dict[str, Any]:
    """Returns a runner's arguments: seven iterations, a checkpoint after each."""
    many = {'num_workers': workers, 'persistent_workers': workers > 0}
    loader = {'batch_size': BATCH, 'dataset': {'type': 'NoisyNumbers'}, **many}
    config: dict[str, Any] = {
        'model': {'type': 'NoisyModel'},
        'work_dir': str(work),
        'train_dataloader': {**loader, 'sampler': {'type': 'InfiniteSampler'}},
        'train_cfg': {'by_epoch': False, 'max_iters': 13},
        'optim_wrapper': {'optimizer': {'type': 'AdamW', 'lr': 0.1}},
        'param_scheduler': {'type': 'LinearLR', 'by_epoch': False, 'end': 10},
        'default_hooks': {
            'checkpoint': {'type': 'CheckpointHook', 'by_epoch': False, 'interval': 1},
            'step_seed': {'type': 'StepSeedHook'},
            'non_finite': {'type': 'NonFiniteHook'},
            'stop_signal': {'type': 'StopSignalHook'},
        },
        'default_scope': 'mmengine',
        'experiment_name': f'{work.parent.name}-{work.name}',
    }
    return {**config, **changes}


def train(config: dict[str, Any]) -> Runner:
    runner = Runner(**config)
    runner.train()
    return runner


def assert_same(one: Path, other: Path) -> None:
    """Weights, buffers and the optimizer of two checkpoints are equal to the last bit."""
    first, second = safe_load(one), safe_load(other)
    assert first['meta']['iter'] == second['meta']['iter']
    assert first['state_dict'].keys() == second['state_dict'].keys()
    for name, tensor in first['state_dict'].items():
        assert torch.equal(tensor, second['state_dict'][name]), name
    states = [content['optimizer']['state'] for content in (first, second)]
    assert states[0].keys() == states[1].keys()
    for index, state in states[0].items():
        for name, tensor in state.items():
            assert torch.equal(tensor, states[1][index][name]), (index, name)
