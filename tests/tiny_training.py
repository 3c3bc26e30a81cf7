"""A training of mmengine's that takes no time: one parameter, four numbers."""

from pathlib import Path
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch.utils.data import Dataset


@MODELS.register_module()
class OneWeight(BaseModel):
    """Has one parameter and learns nothing, as the rate is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))

    def forward(self, inputs: list[torch.Tensor], mode: str) -> Any:
        loss = (self.weight * torch.stack(inputs)).square().mean()
        return {'loss': loss} if mode == 'loss' else [{'loss': loss.item()}]


@MODELS.register_module()
class LargeState(OneWeight):
    """Writes checkpoints of 16 MB, which takes longer than its steps; the weight is learnt."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer('ballast', torch.randn(4_000_000))


@DATASETS.register_module()
class FourNumbers(Dataset):
    """1, 2, 3, 4."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        return {'inputs': torch.tensor([1.0 + index])}


def tiny_config(work: Path) -> dict[str, Any]:
    """Returns what a runner needs for three steps, with a validation after each."""
    loader = {'batch_size': 1, 'dataset': {'type': 'FourNumbers'}, 'num_workers': 0}
    return {
        'model': {'type': 'OneWeight'},
        'work_dir': str(work),
        'train_dataloader': {**loader, 'sampler': {'type': 'InfiniteSampler', 'shuffle': False}},
        'val_dataloader': {**loader, 'sampler': {'type': 'DefaultSampler', 'shuffle': False}},
        'train_cfg': {'by_epoch': False, 'max_iters': 3, 'val_interval': 1},
        'val_cfg': {},
        'val_evaluator': [],
        'optim_wrapper': {'optimizer': {'type': 'SGD', 'lr': 0.0}},
        'default_hooks': {},
        'default_scope': 'mmengine',
        # Loggers live on by this name, which otherwise is the second of the start.
        'experiment_name': work.parent.name,
    }


def tiny_runner(work: Path, **changes: Any) -> Runner:
    """Builds the runner of `tiny_config`; `changes` replace entries."""
    return Runner(**{**tiny_config(work), **changes})
