"""A neck that returns one map more than the backbone.

Source: ViTDet (Li et al. 2022), section 3. The simple feature pyramid replaces
the FPN, and the region proposals use a fifth map at stride 64: every second cell of the last map.
"""

from collections.abc import Sequence

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F


@MODELS.register_module()
class LastLevelMaxPool(BaseModule):
    """Append the last map at half its size; no parameters."""

    def __init__(self, in_channels: Sequence[int], *, init_cfg: dict | None = None) -> None:
        """Check the arguments.

        Args:
            in_channels: Channels of each map, all equal because the heads share their weights.
            init_cfg: Initialization of mmengine.

        Raises:
            ValueError: There are no maps, or their channels differ.
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
        """Return the maps `(B, C, h, w)` and one of `(B, C, ceil(h / 2), ceil(w / 2))`."""
        return (*maps, F.max_pool2d(maps[-1], kernel_size=1, stride=2))
