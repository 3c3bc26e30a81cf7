"""Keep the activations inside timm's batch norms when these are converted to SyncBatchNorm.

timm's `BatchNormAct2d` is a batch norm with the activation inside. PyTorch's conversion to
`SyncBatchNorm`, which mmengine's `sync_bn='torch'` calls, knows the norm only and would
drop the activation silently. timm's own class for this is put in its place here.
"""

from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn

Activations = dict[str, tuple[nn.Module, nn.Module]]


def find_activations(model: nn.Module) -> Activations:
    """Return activation and dropout of each batch norm of `model` that has them, by name."""
    norms = {n: m for n, m in model.named_modules() if isinstance(m, BatchNormAct2d)}
    return {name: (norm.act, norm.drop) for name, norm in norms.items()}


def restore_activations(model: nn.Module, activations: Activations) -> None:
    """Restore the activations of norms that have become a plain `SyncBatchNorm` since."""
    modules = dict(model.named_modules())
    for name, (act, drop) in activations.items():
        norm = modules.get(name)  # None: removed since
        if norm is not None and type(norm) is nn.SyncBatchNorm:
            norm.__class__ = SyncBatchNormAct
            norm.act, norm.drop = act, drop
