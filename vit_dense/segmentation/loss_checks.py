"""Check that the losses of a head can teach it the classes of its labels."""

import copy
from collections.abc import Iterator

import torch
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn

_SIDE = 32


def check_losses(name: str, head: BaseDecodeHead) -> None:
    """Check the losses of a head that calls them as mmseg's heads do by default.

    Raises:
        ValueError: `class_weight` has another length than the channels, or a loss does not learn
            class 1 from one channel.
    """
    if type(head).loss_by_feat is not BaseDecodeHead.loss_by_feat:
        return
    for loss in iter_losses(head):
        kind = type(loss).__name__
        weights = getattr(loss, 'class_weight', None)
        if weights is not None and len(weights) != head.out_channels:
            raise ValueError(
                f'{name}.loss_decode: class_weight of {kind} has {len(weights)} values, {name} has '
                f'{head.out_channels} channels. Give one value for each, in the order of '
                'metainfo.classes.'
            )
        if head.out_channels == 1 and not learns_one_channel(loss, head.ignore_index):
            softmax = '(use_sigmoid=False)' if not getattr(loss, 'use_sigmoid', True) else ''
            raise ValueError(
                f'{name}.out_channels=1 with {kind}{softmax}: it does not learn class 1 from one '
                'channel; the softmax of one channel, for example, is always 1. Set '
                f"{name}.loss_decode=dict(_delete_=True, type='CrossEntropyLoss', "
                f'use_sigmoid=True), or {name}.out_channels=2 with num_classes=2.'
            )


def iter_losses(head: nn.Module) -> Iterator[nn.Module]:
    """Yield the losses in `loss_decode`, which is one or a list."""
    losses = getattr(head, 'loss_decode', None)
    if isinstance(losses, nn.Module):
        yield from losses if isinstance(losses, nn.ModuleList) else [losses]


def learns_one_channel(loss: nn.Module, ignore_index: int) -> bool:
    """Return whether `loss` falls when one channel rises in class 1 and falls in class 0."""
    if getattr(loss, 'loss_weight', 1.0) == 0:
        return True
    label = torch.arange(_SIDE**2).view(1, _SIDE, _SIDE) % 2
    logits = torch.zeros(1, 1, _SIDE, _SIDE, requires_grad=True)
    # A copy on the CPU: on a GPU, a class that is out of range ends the process.
    loss = copy.deepcopy(loss).cpu()
    try:
        with torch.enable_grad():
            loss(logits, label, weight=None, ignore_index=ignore_index).mean().backward()
    except Exception:  # whatever it is, training would raise it, too
        return False
    return logits.grad is not None and bool((logits.grad * (2 * label - 1)).sum() < 0)
