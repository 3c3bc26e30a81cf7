"""Heads of mmseg 0.x and mmdet 2.x under the names of mmseg 1.x and mmdet 3.x.

UPerNet, FCN, FPN, the RPN, box and mask heads, cascades and ATSS kept theirs. The transformers of
Mask2Former did not: mmdet 2.x counts a layer's attentions, mmdet 3.x says what each looks at.

`CheckpointCheckHook`, `tools/convert_checkpoint.py` and `ReleasedMask2FormerHead` rename. mmseg's
and mmdet's own `Mask2FormerHead` refuse such a file where that hook is not at work: the backbone,
which takes released ones everywhere, is handed no names but its own. Convert the file first.
"""

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ['rename_heads']

_HEADS = r'^((?:decode_head|panoptic_head)\.'
_ENCODER = rf'{_HEADS}pixel_decoder\.encoder\.layers\.\d+\.)'
_DECODER = rf'{_HEADS}transformer_decoder\.layers\.\d+\.)'
_RENAMED = (
    (rf'{_ENCODER}attentions\.0\.', r'\1self_attn.'),
    # a query looks at the image first, at the other queries then
    (rf'{_DECODER}attentions\.0\.', r'\1cross_attn.'),
    (rf'{_DECODER}attentions\.1\.', r'\1self_attn.'),
    (rf'{_ENCODER}ffns\.0\.', r'\1ffn.'),
    (rf'{_DECODER}ffns\.0\.', r'\1ffn.'),
)


def rename_heads(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Put the heads of a state dict under today's names; what has them already stays as it is."""
    return {_rename(name): tensor for name, tensor in tensors.items()}


def _rename(name: str) -> str:
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name
