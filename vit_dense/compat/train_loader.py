"""Continue the data of a training at any position, without reading what lies before it.

To resume at iteration N, mmengine 0.10.7 reads N batches and drops them. Its iterator starts to
read when the loop is built, before the seed of the resumed training is known. In a loop over
epochs, a checkpoint saved inside an epoch starts that epoch again. Here, the batches are passed
over in the sampler, which yields indices alone.
"""

import functools
import logging
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any

from mmengine.dist import get_world_size
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, loops
from torch.utils.data import DataLoader, IterableDataset, Sampler

__all__ = ['TrainBatches', 'install', 'train_batches']

# Entries of mmengine's message hub, which checkpoints hold.
_SAMPLER_SEED = 'train_sampler_seed'
_BATCH_SIZE = 'train_batch_size'  # of all processes
_EPOCH = 'train_epoch'  # epoch, its number of batches, the iteration it began at


def install() -> None:
    """Replace the iterator of `IterBasedTrainLoop`, and how both loops start."""
    loops._InfiniteDataloaderIterator = _TrainIterator
    EpochBasedTrainLoop.run_epoch = _run_epoch
    for loop in (IterBasedTrainLoop, EpochBasedTrainLoop):
        if not hasattr(loop.run, '__wrapped__'):
            loop.run = _starting_at_position(loop.run)


class TrainBatches(Sampler[Any]):
    """A batch sampler that can start in the middle of an epoch, and counts its batches.

    Args:
        batches: The batch sampler that a data loader was built with.

    Attributes:
        iteration: The iteration of the training that the next batch is for, from 0.
        mark: Makes what the data loader fetches from an iteration and the indices of its batch.
    """

    def __init__(self, batches: Any) -> None:
        self.batches = batches
        self.iteration = 0
        self.mark: Callable[[int, Any], Any] = lambda iteration, indices: indices
        self._rest: Iterator[Any] | None = None

    @property
    def sampler(self) -> Any:
        """Return the sampler of single indices, whose epoch mmengine sets."""
        return getattr(self.batches, 'sampler', None)

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        batches = iter(self.batches) if self._rest is None else self._rest
        self._rest = None
        for indices in batches:
            self.iteration += 1
            yield self.mark(self.iteration - 1, indices)

    def skip(self, count: int) -> int:
        """Start the next epoch `count` batches later; return how many it lacks."""
        self._rest = iter(self.batches)
        skipped = sum(1 for _ in islice(self._rest, count))
        self.iteration += skipped
        return count - skipped


def train_batches(loader: DataLoader) -> TrainBatches | None:
    """Replace the batch sampler of a training's data loader by `TrainBatches`, once, and return it.

    Returns:
        None if the data set has no indices, or is read without batches.
    """
    batches = getattr(loader, 'batch_sampler', None)
    if isinstance(batches, TrainBatches):
        return batches
    if batches is None or isinstance(loader.dataset, IterableDataset):
        return None
    # DataLoader refuses the assignment, as iterators keep what they were made with: so no
    # persistent one may remain.
    vars(loader).update(batch_sampler=(own := TrainBatches(batches)), _iterator=None)
    return own


class _TrainIterator:
    """Iterate over the data again and again, from the batch after the first `count` ones.

    Nothing is read before the first batch that is used.
    """

    def __init__(self, dataloader: DataLoader) -> None:
        self._dataloader = dataloader
        self._iterator: Iterator[Any] | None = None
        self._epoch = 0
        self._to_drop = self._to_skip = 0

    def skip(self, count: int) -> None:
        """Pass over `count` batches, for which `next` returns None."""
        if train_batches(self._dataloader) is not None:
            self._to_drop = self._to_skip = count

    def __iter__(self) -> '_TrainIterator':
        return self

    def __next__(self) -> Any:
        if self._to_drop:
            self._to_drop -= 1
            return None
        if self._iterator is None:
            self._start()
        try:
            return next(self._iterator)  # type: ignore[arg-type]
        except StopIteration:
            self._next_epoch()
            self._iterator = iter(self._dataloader)
            return next(self._iterator)

    def _start(self) -> None:
        batches = train_batches(self._dataloader)
        if batches is not None:
            if self._to_skip and not len(batches):
                raise ValueError('The training data give no batch: lower batch_size.')
            while lacking := batches.skip(self._to_skip):
                self._to_skip = lacking
                self._next_epoch()
        self._iterator = iter(self._dataloader)

    def _next_epoch(self) -> None:
        self._epoch += 1
        batches = getattr(self._dataloader, 'batch_sampler', None)
        set_epoch = getattr(getattr(batches, 'sampler', None), 'set_epoch', None)
        if set_epoch is not None:
            set_epoch(self._epoch)


def _starting_at_position(run: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Return the method `run` of a loop, preceded by what resuming needs.

    However it ends, hooks with a method `after_train_loop` are called.
    """

    @functools.wraps(run)
    def start(self: IterBasedTrainLoop | EpochBasedTrainLoop) -> Any:
        batches = train_batches(self.dataloader)
        if batches is not None:
            batches.iteration = 0
            _resume_sampler(self, batches.sampler)
            _compare_batch_sizes(self, batches)
        if isinstance(iterator := getattr(self, 'dataloader_iterator', None), _TrainIterator):
            iterator.skip(self._iter)
        if self._iter >= self._max_iters:
            text = f'Iteration {self._iter} of {self._max_iters} is reached: nothing is trained.'
            print_log(text, 'current', logging.WARNING)
        try:
            return run(self)
        finally:
            self.runner.call_hook('after_train_loop')

    return start


def _resume_sampler(loop: IterBasedTrainLoop | EpochBasedTrainLoop, sampler: Any) -> None:
    """Give the sampler the seed that it had when the training began.

    It was built with a new one, as the file to resume from had not been read.
    """
    if not isinstance(getattr(sampler, 'seed', None), int):
        return
    hub = loop.runner.message_hub
    if loop._iter > 0:
        sampler.seed = hub.get_info(_SAMPLER_SEED, sampler.seed)
    hub.update_info(_SAMPLER_SEED, sampler.seed)


def _compare_batch_sizes(
    loop: IterBasedTrainLoop | EpochBasedTrainLoop, batches: TrainBatches
) -> None:
    """Warn if a resumed training has another number of samples per iteration than before."""
    hub, size = loop.runner.message_hub, getattr(batches.batches, 'batch_size', None)
    if not isinstance(size, int):
        return
    size *= get_world_size()
    before = hub.get_info(_BATCH_SIZE, size)
    if loop._iter > 0 and before != size:
        text = (
            f'This training had {before} samples per iteration and continues with {size}: '
            'iterations and learning rates mean something else from here on. '
            f'To keep {before}, change batch_size or the number of processes.'
        )
        print_log(text, 'current', logging.WARNING)
    hub.update_info(_BATCH_SIZE, size)


def _run_epoch(self: EpochBasedTrainLoop) -> None:
    """Iterate over an epoch, or over the rest of the one in which a checkpoint was saved."""
    self.runner.call_hook('before_train_epoch')
    self.runner.model.train()
    first = 0
    batches = train_batches(self.dataloader)
    if batches is not None:
        hub, current = self.runner.message_hub, [self._epoch, len(self.dataloader)]
        begun = hub.get_info(_EPOCH, [])
        if self._iter > 0 and begun[:2] == current:
            first = self._iter - begun[2]
        hub.update_info(_EPOCH, [*current, self._iter - first])
        batches.iteration = self._iter - first
        batches.skip(first)
    for index, data_batch in enumerate(self.dataloader, first):
        self.run_iter(index, data_batch)
    self.runner.call_hook('after_train_epoch')
    self._epoch += 1
