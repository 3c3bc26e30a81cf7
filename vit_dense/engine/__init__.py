"""Training machinery: layer-wise learning rates, and hooks that check before they train."""

from .checkpoint_check import CheckpointCheckHook
from .layer_decay import LayerDecayOptimWrapperConstructor
from .normalization_check import NormalizationCheckHook

__all__ = ['CheckpointCheckHook', 'LayerDecayOptimWrapperConstructor', 'NormalizationCheckHook']
