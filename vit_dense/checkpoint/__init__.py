"""Loading released and home-trained weights into timm ViTs, with a report."""

from .load import load_vit_weights
from .read import CheckpointReadError, read_checkpoint
from .released import Released, plan_released, recognise_released
from .released_heads import rename_heads
from .report import CheckpointMismatchError, LoadReport

__all__ = [
    'CheckpointMismatchError',
    'CheckpointReadError',
    'LoadReport',
    'Released',
    'load_vit_weights',
    'plan_released',
    'read_checkpoint',
    'recognise_released',
    'rename_heads',
]
