"""The model that hooks want to look at, inside what frameworks put around it."""

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside wrappers for distribution and test-time augmentation."""
    while isinstance(inner := getattr(model, 'module', None), nn.Module):
        model = inner
    return model
