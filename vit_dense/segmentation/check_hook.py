"""Check that segmentor, data and metric agree, before the first iteration.

Otherwise errors appear late and deep inside a library: a shape error of a convolution, an index
error of a loss, a device-side assertion, or no error and a wrong mIoU.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn
from torch.utils.data import DataLoader, Dataset

from ..data.files import picture_size, spread_evenly
from ..engine.check_hook import CheckHook, check_task
from ..engine.unlabelled import has_labels, needs_labels
from ..engine.wrappers import iter_datasets, unwrap
from ..weights.match import shorten
from .dataset import CheckedSegDataset, check_samples, check_several
from .loss_checks import check_losses, iter_losses
from .pipeline_checks import added_labels, check_geometry

if TYPE_CHECKING:
    from mmseg.models.decode_heads.mask2former_head import Mask2FormerHead

_NO_MASKS = (
    'The {split} data set has no masks (data_prefix.seg_map_path): there is nothing to learn from '
    'or to measure against. Name their folder; without labels, only a test works, which predicts. '
    'To train without validation, set val_cfg, val_dataloader and val_evaluator to None.'
)
# Of these many files the header is read, and of these many sizes an image is loaded.
_SIZES_READ, _SIZES_LOADED = 1000, 16
# What mmseg's loading writes if reduce_zero_label or a choice of classes removes a label.
_LOADED_VOID = 255
_ADVICE = (
    'Masks of classes need CheckedSegDataset (configs/vit_upernet_custom.py); for boxes, start '
    'from configs/vit_maskrcnn_custom.py.'
)


@HOOKS.register_module()
class SegCheckHook(CheckHook):
    """Check channels, number of classes and `ignore_index` before training, validation and test.

    Data sets of mmseg's own classes are also checked for missing masks and wrong label values.

    Args:
        scan_masks: How many masks of such a data set to open; None opens all.
    """

    def __init__(self, *, scan_masks: int | None = 64) -> None:
        self.scan_masks = scan_masks

    def check_model(self, model: nn.Module) -> None:
        """Compare the channels of backbone, heads and losses."""
        for name, head in iter_heads(model):
            if isinstance(head, BaseDecodeHead):
                check_losses(name, head)
        channels = getattr(getattr(model, 'backbone', None), 'out_channels', None)
        if channels is None or getattr(model, 'neck', None) is not None:
            return
        for name, head in iter_heads(model):
            check_cls_token(name, head, model.backbone)
            if not isinstance(head, BaseDecodeHead):
                check_queries(name, head, list(channels))
            else:
                check_channels(name, head, list(channels))

    def check_data(self, runner: Runner, dataset: Dataset, split: str) -> None:
        """Compare heads, pipeline and data set, and check the files of mmseg's own classes."""
        check_whole_patches(unwrap(runner.model), split)
        for part in iter_datasets(dataset):
            check_task(part, split, wanted='a segmentor', other='mmdet', advice=_ADVICE)
            if not isinstance(part, BaseSegDataset):
                continue
            if not isinstance(part, CheckedSegDataset):
                check_several(part.metainfo.get('classes'))
                samples = [part.get_data_info(index) for index in range(len(part))]
                check_samples(part, samples, self.scan_masks)
            check_void(part, split)
            check_geometry(part.pipeline, split)
            for name, head in iter_heads(unwrap(runner.model)):
                check_classes(name, head, part, split)
            check_ignored(runner, part, split)
            if split == 'training' and not has_labels(part):
                raise ValueError(_NO_MASKS.format(split=split))

    def check_metric(self, metric: BaseMetric, dataset: Any, split: str) -> None:
        """Check that there is something to measure against."""
        if needs_labels(metric) and not has_labels(dataset):
            raise ValueError(_NO_MASKS.format(split=split))

    def _check_evaluation(
        self, runner: Runner, loader: DataLoader, evaluator: Evaluator, split: str
    ) -> None:
        super()._check_evaluation(runner, loader, evaluator, split)
        check_batches(loader, 'test' if split == 'test' else 'val')


Head: TypeAlias = 'BaseDecodeHead | Mask2FormerHead'


def iter_heads(model: nn.Module) -> Iterator[tuple[str, Head]]:
    """Yield the config name and the module of each head; a cascade or a list has several."""
    for name in ('decode_head', 'auxiliary_head'):
        found = getattr(model, name, None)
        several = isinstance(found, nn.ModuleList)
        for index, head in enumerate(found if isinstance(found, nn.ModuleList) else [found]):
            # By name: the class would import mmdet for every model.
            names = {kind.__name__ for kind in type(head).__mro__}
            if names & {'BaseDecodeHead', 'Mask2FormerHead'}:
                yield f'{name}[{index}]' if several else name, head


def check_channels(name: str, head: BaseDecodeHead, channels: Sequence[int]) -> None:
    """Raise `ValueError` if `head` expects other maps than the backbone returns."""
    single = head.input_transform is None
    indices = [head.in_index] if single else list(head.in_index)
    if any(not -len(channels) <= index < len(channels) for index in indices):
        raise ValueError(
            f'{name}.in_index={head.in_index} asks for a map that does not exist: the backbone '
            f'makes {len(channels)}, numbered 0..{len(channels) - 1}.'
        )
    offered = [channels[index] for index in indices]
    wanted: int | Sequence[int] = head.in_channels
    if head.input_transform == 'resize_concat':
        fits = wanted == sum(offered)
    else:
        fits = offered == ([wanted] if isinstance(wanted, int) else list(wanted))
    if not fits:
        raise ValueError(
            f'{name}.in_channels={wanted} does not fit the backbone: its out_channels are '
            f'{list(channels)}, of which {name} takes number {head.in_index}. Set '
            f'{name}.in_channels={offered[0] if single else offered}.'
        )


def check_cls_token(name: str, head: Head, backbone: Any) -> None:
    """Raise `ValueError` if only one of backbone and head has pairs of a map and a cls token."""
    given = getattr(backbone, 'output_cls_token', False)
    blocks = getattr(head, 'reassemble_blocks', None)  # of DPTHead
    if given != (blocks is not None):
        raise ValueError(
            f'{name}.type={type(head).__name__!r} with backbone.output_cls_token={given}: set it '
            'to True for DPTHead, which takes pairs of a map and a cls token, and else to False.'
        )
    readout = getattr(blocks, 'readout_type', 'ignore')
    if readout != 'ignore' and not backbone.vit.num_prefix_tokens:
        raise ValueError(
            f'{name}.readout_type={readout!r}: {backbone.vit.model_name!r} has no cls '
            "token; set it to 'ignore'."
        )


def check_whole_patches(model: nn.Module, split: str) -> None:
    """Raise `ValueError` if maps of `PlainViT` may cover more than the images of a split."""
    preprocessor: Any = getattr(model, 'data_preprocessor', None)
    backbone: Any = getattr(model, 'backbone', None)
    # By attributes, as among several tasks another module stands for PlainViT.
    if preprocessor is None or not all(hasattr(backbone, x) for x in ('output_cls_token', 'vit')):
        return
    windows, padding = (getattr(one, 'test_cfg', None) or {} for one in (model, preprocessor))
    if split == 'training':
        sizes = {
            f'data_preprocessor.{name}': size
            for name in ('size', 'size_divisor')
            if (size := getattr(preprocessor, name, None)) is not None
        }
    else:
        # Windows at the edge of a smaller image have its size, hence the padding.
        sizes = {'data_preprocessor.test_cfg.size_divisor': padding.get('size_divisor')}
        if windows.get('mode') == 'slide':
            sizes['test_cfg.crop_size'] = windows.get('crop_size')
    patch = backbone.vit.patch_size
    for place, size in sizes.items():
        edges = size if isinstance(size, Sequence) else [size or 1]
        if any(edge % patch for edge in edges):
            nearest = tuple(max(1, round(edge / patch)) * patch for edge in edges)
            instead = 'size=None, ' if padding.get('size') else ''
            crops = f'crop_size={nearest} and ' if len(edges) > 1 else ''
            raise ValueError(
                f'model.{place}={size} is not a multiple of the patches of {patch} px: maps of '
                'PlainViT cover whole patches, and predictions would be stretched. Set '
                f'{crops}model.data_preprocessor.test_cfg=dict({instead}size_divisor={patch}).'
            )


def check_queries(name: str, head: 'Mask2FormerHead', channels: Sequence[int]) -> None:
    """Raise `ValueError` if a head with queries expects other maps or weights other classes."""
    fitting: Any = list(channels)
    if decoder := getattr(head, 'pixel_decoder', None):
        layers = [*reversed(decoder.lateral_convs), *reversed(decoder.input_convs)]
        wanted = [layer.conv.in_channels for layer in layers]
    else:  # EoMTHead
        wanted, fitting = [head.in_channels], channels[-1]
    if wanted != list(channels):
        raise ValueError(
            f'{name}.in_channels={wanted} does not fit the backbone: set {name}.in_channels='
            f'{fitting}, its out_channels.'
        )
    if head.num_classes == 1:
        raise ValueError(
            f'{name}.num_classes=1: queries are scored against each other, and mmseg takes a '
            'single class for a logit. Make the rest of the image a class, num_classes=2.'
        )
    if len(head.class_weight) != head.num_classes + 1:
        raise ValueError(
            f'{name}.loss_cls.class_weight has {len(head.class_weight)} values for num_classes='
            f'{head.num_classes}: give one for each class and one for "nothing", '
            f'class_weight=[1.0] * {head.num_classes} + [0.1].'
        )


def check_classes(name: str, head: Head, dataset: BaseSegDataset, split: str) -> None:
    """Raise `ValueError` if head and data set differ in classes or in `ignore_index`."""
    classes = dataset.metainfo.get('classes') or ()
    if classes and head.num_classes != len(classes):
        raise ValueError(
            f'{name}.num_classes={head.num_classes}, but the {split} data set has {len(classes)} '
            f'classes ({shorten(list(classes))}). Set num_classes={len(classes)} in every head, or '
            'correct metainfo.classes.'
        )


def check_ignored(runner: Runner, dataset: BaseSegDataset, split: str) -> None:
    """Raise `ValueError` with all values for pixels without a class, if one differs."""
    model, is_training = unwrap(runner.model), split == 'training'
    found = []
    for name, head in iter_heads(model):
        found.append((f'{name}.', head))
        # DiceLoss names a class to leave out.
        losses = [one for one in iter_losses(head) if type(one).__name__ != 'DiceLoss']
        found += [(f'{name}.loss_decode.', one) for one in losses if is_training]
    if not is_training or runner.val_loop is not None:
        evaluator = runner.test_evaluator if split == 'test' else runner.val_evaluator
        found += [(f'{type(one).__name__} has ', one) for one in evaluator.metrics]
    values = [
        (f'{name}ignore_index', value)
        for name, owner in found
        if (value := getattr(owner, 'ignore_index', None)) is not None
    ]
    if is_training:
        values += added_labels(dataset.pipeline, getattr(model, 'data_preprocessor', None))
    if any(value != dataset.ignore_index for _, value in values):
        raise ValueError(
            f'{", ".join(f"{name}={value}" for name, value in values)}, but the {split} data set '
            f'has ignore_index={dataset.ignore_index}: pixels without a class would be trained or '
            'scored as one, or fail as an index out of range. Set all to the same value.'
        )


def check_batches(loader: DataLoader, name: str) -> None:
    """Raise `ValueError` if images of several sizes would be in one batch, which mmseg rejects."""
    if (getattr(loader, 'batch_size', 1) or 1) == 1:
        return
    shapes: dict[tuple[int, ...], str] = {}
    for part in iter_datasets(loader.dataset):
        files: dict[Any, tuple[int, str]] = {}
        for index in spread_evenly(len(part), _SIZES_READ):
            path = part.get_data_info(index)['img_path']
            files.setdefault(picture_size(path) or path, (index, path))
        for index, path in list(files.values())[:_SIZES_LOADED]:
            inputs = part[index]['inputs']
            shape = (inputs[0] if isinstance(inputs, list) else inputs).shape
            shapes.setdefault(tuple(shape[-2:]), path)
    if len(shapes) > 1:
        shown = ', '.join(f'{h}x{w} ({path})' for (h, w), path in list(shapes.items())[:2])
        raise ValueError(
            f'{name}_dataloader.batch_size={loader.batch_size}, but images reach the model in '
            f'several sizes: {shown}. mmseg takes one size in a batch: set batch_size=1.'
        )


def check_void(dataset: BaseSegDataset, split: str) -> None:
    """Raise `ValueError` if loading writes another void value than `ignore_index`."""
    writes_void = dataset.reduce_zero_label or dataset.label_map is not None
    if writes_void and dataset.ignore_index != _LOADED_VOID:
        reason = 'reduce_zero_label=True' if dataset.reduce_zero_label else 'a choice of classes'
        raise ValueError(
            f'The {split} data set has ignore_index={dataset.ignore_index} together with {reason}, '
            f'which writes {_LOADED_VOID} for pixels without a class. Set ignore_index='
            f'{_LOADED_VOID} in data sets, heads and metric.'
        )
