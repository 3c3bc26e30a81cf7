"""Images in a fixed number of augmented versions, whose features can be cached."""

from typing import Any

from mmengine.dataset import BaseDataset, RepeatDataset
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner

from .step_seed import VIEW, seed_generators
from .wrappers import unwrap


@DATASETS.register_module()
class FixedViews(RepeatDataset):
    """Return each image of a data set of mmseg or mmdet in `views` augmented versions.

    Item i is version i // n of image i % n of the n images, and an epoch has all of them. Random
    numbers are a function of `seed` and i: a version is the same in every epoch, process and
    training. Wrappers that mix images or repeat them go inside.
    """

    def __init__(
        self, dataset: BaseDataset | dict[str, Any], *, views: int = 4, seed: int = 0
    ) -> None:
        """Build the data set."""
        super().__init__(dataset, times=views)
        self.seed = seed

    def __getitem__(self, idx: int) -> Any:
        """Load and transform an item."""
        seed_generators(VIEW, self.seed, int(idx))
        return super().__getitem__(idx)


@HOOKS.register_module()
class FeatureCacheHook(Hook):
    """Open the cache of `CachedTimmViT` for the training loop and its validations.

    At other times (test, prediction, export) it computes everything and writes nothing.
    """

    def before_train(self, runner: Runner) -> None:
        """Raise `ValueError` where no image would return, or a process has not the whole ViT."""
        dataset = runner.train_dataloader.dataset
        for vit in _caching_vits(runner):
            if type(runner).__name__ == 'ShardedRunner':
                raise ValueError(
                    "vit.type='CachedTimmViT' with runner_type='ShardedRunner': a ViT whose "
                    'features are cached is not trained, and needs no sharding. Leave runner_type '
                    "out, or set vit.type='TimmViT'."
                )
            parts = getattr(dataset, 'parts', {'': dataset}).values()  # of several tasks
            if not all(isinstance(one, FixedViews) for one in parts):
                raise ValueError(
                    f"vit.type='CachedTimmViT' with a training data set {type(dataset).__name__}: "
                    'augmented images are new each time, and no cached feature would be used. Set '
                    "train_dataloader.dataset=dict(_delete_=True, type='FixedViews', views=4, "
                    'dataset=...) around it, or around each task of a MultiTaskDataset.'
                )
            vit.open_cache(len(dataset))

    def after_train_loop(self, runner: Runner) -> None:
        """Close the cache, however the training ends."""
        for vit in _caching_vits(runner):
            vit.close_cache()


def _caching_vits(runner: Runner) -> list[Any]:
    return [part for part in unwrap(runner.model).modules() if hasattr(part, 'open_cache')]
