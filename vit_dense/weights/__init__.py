"""Loading released and home-trained weights into timm ViTs, with a report."""

from .foreign import recognise_foreign, register_foreign
from .load import load_vit_weights
from .read import CheckpointReadError, read_checkpoint
from .report import CheckpointMismatchError, LoadReport

__all__ = [
    'CheckpointMismatchError',
    'CheckpointReadError',
    'LoadReport',
    'load_vit_weights',
    'read_checkpoint',
    'recognise_foreign',
    'register_foreign',
]
