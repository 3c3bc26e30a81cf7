"""Keeps the activations that timm builds into its batch norms when they become synchronised.

timm's `BatchNormAct2d` is a batch norm with the activation inside. PyTorch's conversion to
`SyncBatchNorm`, which mmengine's `sync_bn='torch'` calls, knows the norm only: the activation would
be gone, silently. timm has a class of its own for it, which is put in place here.
"""

from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn

Activations = dict[str, tuple[nn.Module, nn.Module]]


def find_activations(model: nn.Module) -> Activations:
    """Activation and dropout of each batch norm of `model` that has them, by its name."""
    norms = {n: m for n, m in model.named_modules() if isinstance(m, BatchNormAct2d)}
    return {name: (norm.act, norm.drop) for name, norm in norms.items()}


def restore_activations(model: nn.Module, activations: Activations) -> None:
    """Gives them back to the norms that have become plain `SyncBatchNorm` since."""
    modules = dict(model.named_modules())
    for name, (act, drop) in activations.items():
        norm = modules.get(name)  # None: cut off since
        if norm is not None and type(norm) is nn.SyncBatchNorm:
            norm.__class__ = SyncBatchNormAct
            norm.act, norm.drop = act, drop
