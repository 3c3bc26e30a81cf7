"""How a model of mmseg is used on tiles of a large image."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

from mmengine.config import Config
from torch import nn

from ..backbones import TimmViT
from ..engine.wrappers import unwrap
from ..runtime.tile_model import DEFAULT_TILE, TileModel
from .config import innermost_datasets

if TYPE_CHECKING:
    from .model import TorchPredictor

# Steps of test pipelines that change the size of an image.
_RESIZING = ('Resize', 'RandomResize', 'ResizeShortestEdge', 'ResizeToMultiple')
_LARGEST_STRIDE = 32  # of the maps that adapters return


def tile_model_of(predictor: TorchPredictor) -> TileModel:
    """Return a model with the test pipeline of its config, but for the resizing.

    Tiles have the size of the windows of `test_cfg`, else of the training crop. They start at
    multiples of stride 32 and of the windows of attention, if two of these fit in a tile.
    """
    config = copy.deepcopy(predictor.config)
    loader: dict[str, Any] = {}
    for dataset in innermost_datasets(config.test_dataloader.dataset):
        loader = dataset.pipeline[0] if _name(dataset.pipeline[0]) == 'LoadBands' else {}
        steps = [step for step in dataset.pipeline if _name(step) not in _RESIZING]
        dataset.pipeline = steps
    config.tta_model = None  # returns no scores, which blending needs
    meta = {'classes': predictor.classes, 'palette': predictor.palette.tolist()}
    native = type(predictor)(predictor.module, config, meta, predictor.device)
    module = unwrap(predictor.module)
    tile = _tile(predictor.config)
    align = _window(module)
    highest = loader.get('max_value')
    return TileModel(
        predictor=native,
        channels=native.in_channels,
        tile=tile,
        align=align if 2 * align <= tile else 1,
        threshold=_threshold(module),
        bands=loader.get('bands'),
        scale_from=None if highest is None else (0, highest),
    )


def _tile(config: Config) -> int:
    model = config.get('model', {})
    for place in (
        model.get('test_cfg', {}).get('crop_size'),
        config.get('crop_size'),
        model.get('data_preprocessor', {}).get('size'),
    ):
        if place is not None:
            return int(place if isinstance(place, int) else min(place))
    return DEFAULT_TILE


def _window(module: nn.Module) -> int:
    """Return the least common multiple of the largest stride and the windows, in pixels."""
    edges = {_LARGEST_STRIDE}
    for part in module.modules():
        if isinstance(part, TimmViT):
            edges |= {edge * part.patch_size for edge in part.windows if edge is not None}
    return math.lcm(*edges)


def _threshold(module: nn.Module) -> float | None:
    head: Any = module.decode_head
    head = head[-1] if isinstance(head, nn.ModuleList) else head
    return float(head.threshold) if getattr(head, 'out_channels', 0) == 1 else None


def _name(step: Any) -> str:
    kind = step.get('type', '')
    return str(kind if isinstance(kind, str) else kind.__name__).rpartition('.')[-1]
