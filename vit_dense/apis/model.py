"""Load a trained model and predict with it, as `tools/test.py` does."""

import contextlib
import copy
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config, ConfigDict
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, DefaultScope
from numpy.typing import NDArray
from torch import nn

from ..data.image_files import read_checked
from ..data.pairs import IMAGE_SUFFIXES
from ..data.pictures import complete_palette
from ..engine.checkpoint_check import fit_checkpoint
from ..engine.class_names import check_class_names
from ..engine.half_precision import warn_slow_bfloat16
from ..engine.load_image import use_checked_loading
from ..engine.model_input import input_picture
from ..engine.normalization_check import reverses_channels
from ..engine.wrappers import in_channels
from ..runtime.images import as_image, read_image
from ..runtime.inputs import Item
from ..runtime.predictor import BYTES_PER_SCORE, PredictOptions, Predictor, Prepared, Task
from ..runtime.results import Result
from ..runtime.tile_model import TileModel
from ..weights import read_checkpoint
from .checkpoint_config import config_of_checkpoint
from .config import innermost_datasets, load_config, require_file, require_one_task
from .convert_results import to_detections, to_segmentation
from .devices import choose_device, free_memory
from .large_images import tile_model_of
from .test_pipeline import for_array, loads_plain_colour, without_annotations

_LEVELS = 255
_CHECKPOINTS = ('.pth', '.pt')
_DTYPES = {
    'float32': torch.float32,
    'bfloat16': torch.bfloat16,
    'float16': torch.float16,
}
_NEEDED = ('default_scope', 'model', 'test_dataloader')
_TASKS: dict[str, Task] = {'mmseg': 'segmentation', 'mmdet': 'detection'}


def load_model(
    config_or_checkpoint: str | Path | Config,
    checkpoint: str | Path | None = None,
    device: str = 'auto',
    *,
    require_checkpoint: bool = True,
) -> 'TorchPredictor':
    """Load a trained model.

    Args:
        config_or_checkpoint: A config file, a name such as 'vit_dense::vit_upernet_ade20k.py', a
            `Config`; or a checkpoint alone, which carries its config.
        checkpoint: The weights.
        device: 'auto' (a GPU if there is one), 'cpu', 'cuda', 'cuda:1', ...
        require_checkpoint: Whether to reject a config without checkpoint. Otherwise, weights are
            initialised as before training: pretrained or random.

    Raises:
        ValueError: A file is missing or is none of these, the checkpoint is of another model or
            has other class names than the config, or there is no such device.
    """
    place = choose_device(device)
    if checkpoint is not None and _is_checkpoint(config_or_checkpoint):
        raise ValueError(
            f'{config_or_checkpoint} and {checkpoint} are two checkpoints: give a config and a '
            'checkpoint, or one checkpoint, which carries its config.'
        )
    content: dict[str, Any] | None = None
    if checkpoint is None and _is_checkpoint(config_or_checkpoint):
        content = _read(str(config_or_checkpoint))
        config = config_of_checkpoint(content, str(config_or_checkpoint))
    else:
        if checkpoint is None and require_checkpoint:
            raise ValueError(
                f'{_name_of(config_or_checkpoint)} is a config, which has no weights: name the '
                'checkpoint, too (CONFIG CHECKPOINT), or the checkpoint alone.'
            )
        config = _config(config_or_checkpoint)
        if checkpoint is not None:
            content = _read(str(checkpoint))
    require_one_task(config)
    if absent := [one for one in _NEEDED if not config.get(one)]:
        raise ValueError(
            f'{_name_of(config_or_checkpoint)} has no {", ".join(absent)}, which prediction needs: '
            'give a whole config, such as the one that training wrote to its work_dir.'
        )
    with _scope(config), warnings.catch_warnings():
        # On losses and older names, which do not matter here.
        warnings.filterwarnings('ignore', module=r'mm(seg|det)\.')
        module = build_module(config, content)
        meta = _dataset_meta(config)
        if content is not None:
            check_class_names(content, meta.get('classes'))
            meta |= content.get('meta', {}).get('dataset_meta') or {}
        return TorchPredictor(module.to(place).eval(), config, meta, place)


def build_module(config: Config, content: dict[str, Any] | None) -> nn.Module:
    """Build the model of a config with the weights of a checkpoint, or initialised without.

    Raises:
        CheckpointMismatchError: The checkpoint is of another model.
    """
    module = MODELS.build(copy.deepcopy(config.model))
    if content is None:
        module.init_weights()
    else:
        fit_checkpoint(content, module)
        module.load_state_dict(content.get('state_dict', content))
    return module


class TorchPredictor(Predictor):
    """A segmentor of mmseg or a detector of mmdet in use; from `load_model`.

    Args:
        module: The model, in evaluation mode.
        config: What it was built from.
        meta: 'classes', and 'palette' where known.
        device: Where `module` is.
    """

    def __init__(
        self, module: nn.Module, config: Config, meta: dict[str, Any], device: torch.device
    ) -> None:
        scope = config.get('default_scope', '')
        if scope not in _TASKS:
            raise ValueError(
                f"default_scope={scope!r}: models are used with 'mmseg' or 'mmdet'. Set it in the "
                'config.'
            )
        classes = meta.get('classes') or [f'class {i}' for i in range(_num_classes(module))]
        palette = meta.get('palette')
        # mmdet's data sets may name a scheme of colours instead of listing them.
        colours = complete_palette(None if isinstance(palette, str) else palette, len(classes))
        super().__init__(_TASKS[scope], classes, np.array(colours, np.uint8).reshape(-1, 3))
        self.module = module
        self.config = config
        self.device = device
        self._tta = self._tta_model()
        self._pipelines: dict[tuple[bool, bool], Compose] = {}

    def check(self, options: PredictOptions) -> None:
        """Raise `ValueError` if the config has no test-time augmentation, or `dtype` is unknown."""
        if options.tta and (self._tta is None or self.config.get('tta_pipeline') is None):
            raise ValueError(
                'tta needs tta_model and tta_pipeline in the config; the files in '
                'configs/_base_/datasets show what they look like.'
            )
        if options.tta and options.scores and self.task == 'segmentation':
            raise ValueError('scores: test-time augmentation returns labels alone. Leave tta out.')
        if options.dtype is not None and options.dtype not in _DTYPES:
            raise ValueError(f'dtype={options.dtype!r}: give one of {", ".join(_DTYPES)}.')
        if options.dtype == 'bfloat16':
            warn_slow_bfloat16(self.device)

    def prepare(self, item: Item, options: PredictOptions) -> Prepared:
        """Run the config's test pipeline on one image."""
        sample: dict[str, Any] = {'img_id': 0, 'sample_idx': 0, 'seg_fields': []}
        image: Any = None
        if item.array is not None:
            order = item.channel_order or options.channel_order
            channels = self.in_channels
            sample['img'] = as_image(item.array, channels=channels, channel_order=order)
            limit = self._test_pipeline(False)[0].get('max_value')
            highest = sample['img'].max()
            # Values of the file, such as 0..4095 or 0..1, instead of 0..255.
            if limit and (highest > _LEVELS or 0 < highest <= limit < _LEVELS):
                raise ValueError(
                    'This model was trained with LoadBands(max_value=...): scale arrays to 0..255 '
                    'as it does, or give a path.'
                )
            image = sample['img'][..., ::-1] if channels == 3 else None
        else:
            read_checked(str(item.path))
            sample['img_path'] = item.path
            image = item.path if self._is_plain(str(item.path)) else None
        try:
            data = self._pipeline(options.tta, item.array is not None)(sample)
        except Exception as error:  # loaders of any library raise what they like
            if isinstance(image, str):
                read_image(image)  # raises with a better message
            reason = f'{type(error).__name__}: {error}'.splitlines()[0]
            if 'inv_scale' in reason:  # OpenCV's words for a size of 0
                reason = 'an edge is resized to less than 1 pixel: cut the image into shorter parts'
            raise ValueError(f'{item.path or item.name}: cannot be loaded ({reason})') from error
        inputs = data['inputs']
        views = inputs if isinstance(inputs, list) else [inputs]
        return Prepared(tuple(edge for one in views for edge in one.shape), data, item, image)

    @torch.inference_mode()
    def run(self, batch: Sequence[Prepared], options: PredictOptions) -> list[Result]:
        """Predict images of equal shape.

        Raises:
            ValueError: The scores of a segmentation need more memory than there is.
        """
        self._check_memory(batch)
        model: Any = self._tta if options.tta else self.module
        with self._precision(options.dtype):
            samples = model.test_step(pseudo_collate([one.data for one in batch]))
        return [
            self._result(sample, one, options) for sample, one in zip(samples, batch, strict=True)
        ]

    def read(self, path: str) -> NDArray[Any]:
        """Return the pixels of a file, by the first step of the test pipeline."""
        steps = self._test_pipeline(False)
        if loads_plain_colour(steps):
            return read_image(path)
        read_checked(path)
        with _scope(self.config):
            loaded = Compose(steps[:1])({'img_path': path})
        return np.asarray(loaded['img'])

    def tile_model(self) -> TileModel:
        """Return this model without the resizing of its test pipeline, for large images."""
        return tile_model_of(self)

    def _check_memory(self, batch: Sequence[Prepared]) -> None:
        """Raise before memory is exhausted, which would end the process without a message."""
        free = free_memory(self.device) if self.task == 'segmentation' else None
        samples = [one.data['data_samples'] for one in batch]
        views = [v for one in samples for v in (one if isinstance(one, list) else [one])]
        pixels = sum(view.ori_shape[0] * view.ori_shape[1] for view in views)
        needed = BYTES_PER_SCORE * max(len(self.classes), 1) * pixels
        if free is not None and needed > free:
            height, width = views[0].ori_shape[:2]
            raise ValueError(
                f'{width}x{height} pixels and {len(self.classes)} classes need about '
                f'{needed / 2**30:.1f} GiB for scores, and {free / 2**30:.1f} GiB are free: use '
                '--tile (in Python, runtime.tiles.predict_tiled).'
            )

    def _result(self, sample: Any, prepared: Prepared, options: PredictOptions) -> Result:
        image = prepared.image
        if image is None:
            inputs = prepared.data['inputs']
            image = input_picture(sample, inputs, reverse=reverses_channels(self.module))
        if self.task == 'segmentation':
            return to_segmentation(
                sample, self.module, self.classes, self.palette, image, scores=options.scores
            )
        return to_detections(sample, self.classes, self.palette, image)

    def _is_plain(self, path: str) -> bool:
        """Return whether OpenCV reads the picture that the test pipeline loads."""
        known = Path(path).suffix.lower() in IMAGE_SUFFIXES
        return known and loads_plain_colour(self._test_pipeline(False))

    def _precision(self, dtype: str | None) -> contextlib.AbstractContextManager[Any]:
        if dtype is None:
            return contextlib.nullcontext()
        kind = _DTYPES[dtype]
        return torch.autocast(self.device.type, dtype=kind, enabled=kind != torch.float32)

    @property
    def in_channels(self) -> int:
        """Channels of the images that the model takes."""
        return in_channels(self.module)

    def _pipeline(self, tta: bool, from_array: bool) -> Compose:
        key = tta, from_array
        if key not in self._pipelines:
            steps = use_checked_loading(without_annotations(self._test_pipeline(tta)))
            if from_array:
                steps = for_array(steps, self.config.default_scope)
            with _scope(self.config):
                self._pipelines[key] = Compose(steps)
        return self._pipelines[key]

    def _test_pipeline(self, tta: bool) -> list[ConfigDict]:
        if tta:
            return list(self.config.tta_pipeline)
        dataset = next(innermost_datasets(self.config.test_dataloader.dataset))
        return list(dataset.pipeline)

    def _tta_model(self) -> nn.Module | None:
        kind = self.config.get('tta_model')
        if kind is None:
            return None
        return MODELS.build({**kind, 'module': self.module}).eval()


def _scope(config: Config) -> contextlib.AbstractContextManager[Any]:
    """Look types up as the library of the config does, whatever ran before in this process."""
    return DefaultScope.overwrite_default_scope(config.get('default_scope'))


def _config(given: str | Path | Config) -> Config:
    return given if isinstance(given, Config) else load_config(str(given))


def _is_checkpoint(given: str | Path | Config) -> bool:
    return not isinstance(given, Config) and Path(given).suffix in _CHECKPOINTS


def _name_of(given: str | Path | Config) -> str:
    return str(given.filename) if isinstance(given, Config) else str(given)


def _read(path: str) -> dict[str, Any]:
    require_file(path, 'Checkpoint')
    return read_checkpoint(path)


def _dataset_meta(config: Config) -> dict[str, Any]:
    """Return 'classes' and 'palette' of the config's test data, without opening it."""
    dataset = next(innermost_datasets(config.test_dataloader.dataset))
    kind = dataset.type
    if isinstance(kind, str):
        # `get` alone neither looks into the library of the scope nor imports its data sets.
        with DATASETS.switch_scope_and_registry(config.get('default_scope')) as registry:
            kind = registry.get(kind)
    if not hasattr(kind, '_load_metainfo'):
        return {}
    return dict(kind._load_metainfo(copy.deepcopy(dataset.get('metainfo'))))


def _num_classes(module: nn.Module) -> int:
    for name in ('decode_head', 'bbox_head', 'roi_head.bbox_head', 'panoptic_head'):
        with contextlib.suppress(AttributeError):
            head = module.get_submodule(name)
            head = head[-1] if isinstance(head, nn.ModuleList) else head  # of a cascade
            return int(getattr(head, 'num_classes'))  # noqa: B009
    return 0
