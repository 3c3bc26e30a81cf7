"""Detection configs, read and built."""

from copy import deepcopy

import torch
from leaves import CONFIGS
from mmdet.registry import MODELS
from mmengine.config import Config

import vit_dense.detection  # noqa: F401 - registers what the configs name


def read(name: str) -> Config:
    return Config.fromfile(CONFIGS / f'{name}.py', import_custom_modules=False)


def build(config: Config) -> torch.nn.Module:
    with torch.device('meta'):
        return MODELS.build(deepcopy(config.model))
