"""Loading released and home-trained weights, with a report: read, identify, convert, match."""

from .foreign import ForeignModel, recognise_foreign, register_foreign
from .load import load_pyramid_weights, load_vit_weights
from .match import CheckpointMismatchError, LoadReport
from .read import CheckpointReadError, read_checkpoint

__all__ = [
    'CheckpointMismatchError',
    'CheckpointReadError',
    'ForeignModel',
    'LoadReport',
    'load_pyramid_weights',
    'load_vit_weights',
    'read_checkpoint',
    'recognise_foreign',
    'register_foreign',
]
