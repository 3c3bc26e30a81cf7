"""Small necks: one map more, or fewer maps, than a backbone gives.

Source of LastLevelMaxPool: ViTDet (Li et al. 2022), section 3: the simple feature pyramid replaces
the FPN, and the region proposals see a fifth map at stride 64, which is every second cell of the
last one.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F


@MODELS.register_module()
class LastLevelMaxPool(BaseModule):
    """Hands the maps on and appends the last one at half its size; no parameters."""

    def __init__(self, in_channels: Sequence[int], *, init_cfg: dict | None = None) -> None:
        """
        Args:
            in_channels: channels of each map, all the same, as the heads share their weights.
            init_cfg: mmengine's.

        Raises:
            ValueError: no maps, or channels that differ.
        """
        super().__init__(init_cfg)
        if len(set(in_channels)) != 1:
            raise ValueError(
                f'in_channels={list(in_channels)}: this neck only adds a map, so all must be '
                'equal, as those of SimpleFeaturePyramid are ([256] * 4). For ViTAdapter take '
                "neck=dict(type='FPN', in_channels=..., out_channels=256, num_outs=5)"
            )
        self.in_channels = tuple(in_channels)
        self.out_channels = in_channels[0]

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """n maps (B, C, h, w) -> the same and one of (B, C, ceil(h / 2), ceil(w / 2))."""
        return (*maps, F.max_pool2d(maps[-1], kernel_size=1, stride=2))


@MODELS.register_module()
class SelectMaps(BaseModule):
    """Hands some of the maps on, for necks that use all they get, such as ChannelMapper.

    neck=[
        dict(type='SelectMaps', in_channels=[768] * 4, indices=[1, 2, 3]),
        dict(type='ChannelMapper', in_channels=[768] * 3, ...),
    ]
    """

    def __init__(
        self, in_channels: Sequence[int], indices: Sequence[int], *, init_cfg: dict | None = None
    ) -> None:
        """
        Args:
            in_channels: channels of each map that the backbone gives.
            indices: which maps to hand on, in this order; 0 is the largest.
            init_cfg: mmengine's.

        Raises:
            ValueError: no indices, or one without a map.
        """
        super().__init__(init_cfg)
        allowed = range(len(in_channels))
        if not indices or any(index not in allowed for index in indices):
            raise ValueError(
                f'indices={list(indices)}: name at least one map by its number, 0 to '
                f'{len(in_channels) - 1} for in_channels={list(in_channels)}'
            )
        self.in_channels = tuple(in_channels)
        self.indices = tuple(indices)

    def forward(self, maps: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """n maps -> those at `indices`."""
        return tuple(maps[index] for index in self.indices)
