"""Several tasks of mmseg and mmdet on one encoder; configs name this package in `custom_imports`.

    custom_imports = dict(imports=['vit_dense.multitask'], allow_failed_imports=False)

Importing it registers the model, data sets, sampler, loops and hooks. The packages of the tasks'
libraries are imported when a config names them, as in `type='mmseg.EncoderDecoder'`.
"""

from .datasets import JointDataset, MultiTaskDataset, TaskSampler
from .hooks import MultiTaskCheckHook
from .loops import MultiTaskTestLoop, MultiTaskValLoop
from .model import MultiTaskModel

__all__ = [
    'JointDataset',
    'MultiTaskCheckHook',
    'MultiTaskDataset',
    'MultiTaskModel',
    'MultiTaskTestLoop',
    'MultiTaskValLoop',
    'TaskSampler',
]
