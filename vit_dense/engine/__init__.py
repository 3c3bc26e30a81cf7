"""Training machinery: layer-wise learning rates, and hooks that check before they train."""

from .layer_decay import LayerDecayOptimWrapperConstructor

__all__ = ['LayerDecayOptimWrapperConstructor']
