"""Training machinery: layer-wise learning rates, and hooks that check before training starts."""

from .checkpoint_check import CheckpointCheckHook
from .fixed_views import FeatureCacheHook, FixedViews
from .layer_decay import LayerDecayOptimWrapperConstructor
from .mean_loss import MeanLossHook
from .non_finite import NonFiniteHook
from .normalization_check import NormalizationCheckHook
from .save_best import SaveBestCheckHook
from .sharded_runner import ShardedRunner
from .step_seed import StepSeedHook
from .stop_signal import StopSignalHook
from .tracking import TrackerVisBackend

__all__ = [
    'CheckpointCheckHook',
    'FeatureCacheHook',
    'FixedViews',
    'LayerDecayOptimWrapperConstructor',
    'MeanLossHook',
    'NonFiniteHook',
    'NormalizationCheckHook',
    'SaveBestCheckHook',
    'ShardedRunner',
    'StepSeedHook',
    'StopSignalHook',
    'TrackerVisBackend',
]
