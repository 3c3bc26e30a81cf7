"""From a model of mmseg or mmdet to a module of tensors alone, or a refusal that names the part."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from ..engine.wrappers import unwrap
from .detectors import DETECTORS, wrap_detector
from .exportable import Exportable
from .graph import ExportError
from .mask2former import static_sizes


def wrap(model: nn.Module, size: tuple[int, int] | None) -> Exportable:
    """Make a model exportable.

    Args:
        model: In evaluation mode.
        size: (height, width) of the graph's input; None for any (segmentation).

    Raises:
        ExportError: A part of it cannot be exported.
    """
    model = unwrap(model)
    kind = type(model).__name__
    if kind == 'EncoderDecoder':
        return _segmentor(model)
    if kind in DETECTORS:
        if size is None:
            raise ExportError(
                f'{kind} cannot be exported for any size: its anchors are part of the graph. Leave '
                'out --dynamic-size, and give --size HEIGHT WIDTH.'
            )
        return wrap_detector(model, size)
    raise ExportError(
        f'{kind} cannot be exported: its predictions are not a fixed graph. Export works for '
        f'EncoderDecoder (segmentation) and {", ".join(DETECTORS)} (detection).'
    )


def _segmentor(model: Any) -> Exportable:
    head = model.decode_head
    names = f'{type(model.backbone).__name__} + {type(head).__name__}'
    if model.align_corners:
        raise ExportError(
            f'{type(head).__name__} with align_corners=True cannot be exported: exported files '
            'resize scores with align_corners=False.'
        )
    if type(head).__name__ == 'PointHead':
        raise ExportError('PointHead cannot be exported: it samples points of each image.')
    has_decoder = hasattr(head, 'pixel_decoder')
    settings: dict[str, Any] = {
        'crop_size': None,
        'stride': None,
        'threshold': getattr(head, 'threshold', None),  # of a single channel
        'scores': 'share' if hasattr(head, 'cls_embed') else 'softmax',
    }
    crop = None
    if model.test_cfg.get('mode', 'whole') == 'slide':
        crop = (int(model.test_cfg.crop_size[0]), int(model.test_cfg.crop_size[1]))
        settings.update(crop_size=crop, stride=tuple(model.test_cfg.stride))
    module = (_QuerySegmentor if has_decoder else _Segmentor)(model).eval()
    return Exportable(module, ('logits',), settings, names, 1 if has_decoder else None, crop)


class _Segmentor(nn.Module):
    """Logits of the size of the image."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor) -> Tensor:
        """Return `(B, K, H, W)` of normalised images `(B, C, H, W)`."""
        size = image.shape[2:]
        meta = {'img_shape': size, 'ori_shape': size, 'pad_shape': size, 'batch_input_shape': size}
        with _resized_skips(self.model.decode_head):
            return self.model.encode_decode(image, [meta])


@contextmanager
def _resized_skips(head: nn.Module) -> Iterator[None]:
    """Resize the skips of mmseg's DPT heads always: a graph has no test of whether they differ."""
    blocks = [part for part in head.modules() if type(part).__name__ == 'FeatureFusionBlock']
    handles = [block.register_forward_pre_hook(_resize_skips) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _resize_skips(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    x, *skips = inputs
    return (x, *(F.interpolate(skip, x.shape[2:], mode='bilinear') for skip in skips))


class _QuerySegmentor(_Segmentor):
    """The same with a Mask2Former head."""

    def forward(self, image: Tensor) -> Tensor:
        """Return `(1, K, H, W)` of a normalised image `(1, C, H, W)`."""
        with static_sizes(self.model.decode_head):
            return super().forward(image)
