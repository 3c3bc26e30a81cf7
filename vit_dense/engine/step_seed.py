"""Random numbers as a function of the position in the training, instead of a state.

Before each iteration, the generators of the process are seeded from the seed of the training, the
rank and the iteration; before each sample is read, those of the worker from the seed, the iteration
and the place of the sample in the batch of all processes. So a resumed training draws the numbers
of an uninterrupted one, and augmentation depends neither on the number of workers nor, at an equal
global batch, on the number of processes. Transforms that remember earlier samples, such as mmdet's
`CachedMosaic`, still depend on them.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_dist_info
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from ..compat.train_loader import train_batches

STEP, SAMPLE, VIEW = 0, 1, 2  # so that these never share their numbers


@HOOKS.register_module()
class StepSeedHook(Hook):
    """Seed random, NumPy and PyTorch for each training iteration and each training sample.

    Without this hook, a resumed training has other dropout and augmentation than one that was not
    interrupted.
    """

    priority = 'VERY_HIGH'

    def before_train(self, runner: Runner) -> None:
        """Let the data loader seed each sample, in its workers or in this process."""
        loader = runner.train_dataloader
        batches = train_batches(loader)
        # Data sets that fetch whole batches may require a list.
        if batches is None or hasattr(loader.dataset, '__getitems__'):
            return
        rank, world_size = get_dist_info()
        differs = runner._randomness_cfg.get('diff_rank_seed', False)
        seed = runner.seed - rank if differs else runner.seed
        batches.mark = partial(_SeededBatch, seed, rank, world_size)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Seed this process for the iteration."""
        seed_generators(STEP, runner.seed, runner.iter, get_dist_info()[0])


@dataclass(frozen=True)
class _SeededBatch:
    """The indices of a batch; taking one seeds the process that reads the sample."""

    seed: int
    rank: int
    world_size: int
    iteration: int
    indices: Sequence[Any]

    def __len__(self) -> int:
        return len(self.indices)

    def __iter__(self) -> Iterator[Any]:
        for place, index in enumerate(self.indices):
            # Samplers give every world_size-th sample of the global batch to a rank.
            position = place * self.world_size + self.rank
            seed_generators(SAMPLE, self.seed, self.iteration, position)
            yield index


def seed_generators(*position: int) -> None:
    """Seed the global generators from numbers >= 0, such that neighbours are independent."""
    state = np.random.SeedSequence(position).generate_state(4, np.uint64)
    random.seed(int(state[0]))
    np.random.seed(state[1:3].view(np.uint32))
    seed = int(state[3])
    torch.default_generator.manual_seed(seed)
    # torch.manual_seed records a stack trace where CUDA has not been initialised.
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)
