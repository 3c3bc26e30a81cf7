"""Check that segmentor, data and metric agree, before the first iteration.

Otherwise errors appear late and deep inside a library: a shape error of a convolution, an index
error of a loss, a device-side assertion, or no error and a wrong mIoU.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from mmengine.evaluator import BaseMetric
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmseg.datasets import BaseSegDataset
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import nn
from torch.utils.data import Dataset

from ..engine.check_hook import CheckHook, check_task
from ..engine.wrappers import iter_datasets, unwrap
from ..weights.match import shorten
from .dataset import CheckedSegDataset, check_samples

if TYPE_CHECKING:
    from mmseg.models.decode_heads.mask2former_head import Mask2FormerHead

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
                check_loss(name, head)
        channels = getattr(getattr(model, 'backbone', None), 'out_channels', None)
        if channels is None or getattr(model, 'neck', None) is not None:
            return
        for name, head in iter_heads(model):
            if not isinstance(head, BaseDecodeHead):
                check_pixel_decoder(name, head, list(channels))
            else:
                check_channels(name, head, list(channels))

    def check_data(self, runner: Runner, dataset: Dataset, split: str) -> None:
        """Compare the heads with the data set, and check the files of mmseg's own classes."""
        for part in iter_datasets(dataset):
            check_task(part, split, wanted='a segmentor', other='mmdet', advice=_ADVICE)
            if not isinstance(part, BaseSegDataset):
                continue
            if not isinstance(part, CheckedSegDataset):
                samples = [part.get_data_info(index) for index in range(len(part))]
                check_samples(part, samples, self.scan_masks)
            check_void(part, split)
            for name, head in iter_heads(unwrap(runner.model)):
                check_classes(name, head, part, split)

    def check_metric(self, metric: BaseMetric, dataset: Any, split: str) -> None:
        """Compare `ignore_index` of metric and data set."""
        void = getattr(metric, 'ignore_index', None)
        given = getattr(dataset, 'ignore_index', void)
        if void is not None and void != given:
            raise ValueError(
                f'{type(metric).__name__} has ignore_index={void}, the data set has '
                f'ignore_index={given}: pixels without a class would be '
                'scored. Set both to the same value.'
            )


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


def check_loss(name: str, head: BaseDecodeHead) -> None:
    """Raise `ValueError` if a head of one channel has a softmax loss, which learns nothing."""
    losses = head.loss_decode
    for loss in losses if isinstance(losses, nn.ModuleList) else [losses]:
        softmax = not getattr(loss, 'use_sigmoid', True) and not getattr(loss, 'use_mask', False)
        if head.out_channels == 1 and softmax:
            raise ValueError(
                f'{name}.out_channels=1 with {type(loss).__name__}(use_sigmoid=False): the softmax '
                f'of one channel is always 1. Set use_sigmoid=True in {name}.loss_decode, or '
                f'{name}.out_channels={head.num_classes}.'
            )


def check_pixel_decoder(name: str, head: 'Mask2FormerHead', channels: Sequence[int]) -> None:
    """Raise `ValueError` if a Mask2Former head expects other maps or weights other classes."""
    decoder = head.pixel_decoder
    layers = [*reversed(decoder.lateral_convs), *reversed(decoder.input_convs)]
    wanted = [layer.conv.in_channels for layer in layers]
    if wanted != list(channels):
        raise ValueError(
            f'{name}.in_channels={wanted} does not fit the backbone: set {name}.in_channels='
            f'{list(channels)}, its out_channels.'
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
    if head.ignore_index is not None and head.ignore_index != dataset.ignore_index:
        raise ValueError(
            f'{name}.ignore_index={head.ignore_index}, but the {split} data set has ignore_index='
            f'{dataset.ignore_index}: pixels without a class would be trained as one, or fail '
            'as an index out of range. Set both to the same value.'
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
