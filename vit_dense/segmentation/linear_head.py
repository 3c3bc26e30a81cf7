"""LinearHead: a batch norm and a 1x1 convolution, the protocol to compare frozen backbones.

Source: DINOv2 (Oquab et al. 2023), section 7.4. mmseg's FCNHead without convolutions is similar but
has no norm, which features of frozen ViTs need because their scale differs by channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor

from ..layers import TolerantBatchNorm2d


@MODELS.register_module()
class LinearHead(BaseDecodeHead):
    """Predict class scores as a linear function of the features.

    Takes one map, or several, which are resized to the size of the first and concatenated. At test
    time the norm has fixed statistics, so that the whole head is one linear layer.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_classes: int,
        in_index: int | Sequence[int] = -1,
        dropout_ratio: float = 0.0,
        loss_decode: dict[str, Any] | list[dict[str, Any]] | None = None,
        ignore_index: int = 255,
        align_corners: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the head.

        Args:
            in_channels: Channels of the map, or of each of several maps.
            num_classes: Number of classes.
            in_index: Number of the backbone's map, or of each of several maps.
            dropout_ratio: Share of channels to drop in training; the protocol drops none.
            loss_decode: Config of the loss; cross entropy by default.
            ignore_index: Label of pixels that are ignored.
            align_corners: Argument of `interpolate`, for resizing.
            init_cfg: Initialization of mmengine; by default a normal distribution with a standard
                deviation of 0.01 for the layer.

        Raises:
            ValueError: `in_channels` and `in_index` name different numbers of maps.
        """
        several = not isinstance(in_channels, int)
        numbers = [in_index] if isinstance(in_index, int) else list(in_index)
        channels = list(in_channels) if isinstance(in_channels, Sequence) else [in_channels]
        if isinstance(in_index, int) == several or len(numbers) != len(channels):
            raise ValueError(
                f'LinearHead got in_channels={in_channels} and in_index={in_index}: give one '
                'number in both for one map, or two lists of the same length'
            )
        super().__init__(
            in_channels=channels if several else channels[0],
            channels=sum(channels),
            num_classes=num_classes,
            in_index=numbers if several else numbers[0],
            input_transform='resize_concat' if several else None,
            dropout_ratio=dropout_ratio,
            loss_decode=loss_decode or {'type': 'CrossEntropyLoss', 'use_sigmoid': False},
            ignore_index=ignore_index,
            align_corners=align_corners,
            init_cfg=init_cfg or {'type': 'Normal', 'std': 0.01, 'override': {'name': 'conv_seg'}},
        )
        self.norm = TolerantBatchNorm2d(self.channels)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Return scores `(B, num_classes, h, w)` at the size of the (first) map."""
        return self.cls_seg(self.norm(self._transform_inputs(inputs)))
