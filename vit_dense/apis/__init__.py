"""What the tools call: from a config to a runner, for segmentation and detection."""

# ruff: noqa: E402
from .. import register

register()  # commands have imported `vit_dense` without it

from .config import load_config
from .convert import convert_checkpoint
from .errors import report_user_errors
from .evaluation import evaluate_model
from .export import ExportOptions, export_model
from .inspection import inspect_model
from .merge_lora import merge_checkpoint
from .model import TorchPredictor, load_model
from .training import train_model

__all__ = [
    'ExportOptions',
    'TorchPredictor',
    'convert_checkpoint',
    'evaluate_model',
    'export_model',
    'inspect_model',
    'load_config',
    'load_model',
    'merge_checkpoint',
    'report_user_errors',
    'train_model',
]
