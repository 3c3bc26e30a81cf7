"""What the tools call: from options to a runner, for segmentation and detection alike."""

from .config import load_config
from .errors import run_cleanly
from .evaluation import evaluate_model
from .options import run_tool, tool_parser
from .training import train_model

__all__ = [
    'evaluate_model',
    'load_config',
    'run_cleanly',
    'run_tool',
    'tool_parser',
    'train_model',
]
