"""PlainViT: unchanged maps of a ViT's blocks, for linear probes and other heads for one stride.

Source: DINOv2 (Oquab et al. 2023), section 7.4: a linear layer on the patch tokens of a frozen
ViT, of the last block alone or of the last four concatenated. It has no parameters but the ViT's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor

from ..layers import tokens_to_map
from .taps import tap_blocks
from .timm_vit import TimmViT


@MODELS.register_module()
class PlainViT(BaseModule):
    """One map for each of some blocks, all at the stride of the ViT's patches.

    It is not a `MultiScaleAdapter`, which heads for strides 4 to 32 require. The maps cover whole
    patches, so logits resized to the image are aligned with it only if its size is a multiple of
    the patch size: choose such crops (518 px for patches of 14).

    Attributes:
        vit: The `TimmViT`.
        out_indices: Numbers of the blocks.
        out_channels: Channels of each map, for the heads' `in_channels`.
    """

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        num_maps: int = 1,
        out_indices: Sequence[int] | None = None,
        output_cls_token: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        """Build the ViT.

        Args:
            vit: A `TimmViT` or its config. `final_norm=True` there normalises every map, as
                DINOv2's protocol does.
            num_maps: Number of last blocks whose maps are returned, in the order of the blocks.
            out_indices: Numbers of the blocks instead, rising, such as (2, 5, 8, 11). Later blocks
                are not run, and frozen.
            output_cls_token: Return pairs of a map and the first prefix token (B, C), as mmseg's
                `DPTHead` expects; None in its place for a ViT without one.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If the ViT does not have such blocks.
        """
        super().__init__(init_cfg)
        self.vit = vit if isinstance(vit, TimmViT) else MODELS.build(vit)
        depth = self.vit.depth
        if not 1 <= num_maps <= depth:
            raise ValueError(
                f'num_maps={num_maps}: {self.vit.model_name!r} has {depth} blocks, of '
                'which 1 to all can give a map; published are 1 and 4'
            )
        if out_indices is None:
            out_indices = range(depth - num_maps, depth)
        self.out_indices = tuple(out_indices)
        if not out_indices or list(out_indices) != sorted({*out_indices} & {*range(depth)}):
            raise ValueError(
                f'out_indices={out_indices!r}: give numbers of blocks in rising order, from 0 to '
                f'{depth - 1}'
            )
        # They get no gradient, for which DDP would wait.
        self.vit.model.blocks[self.out_indices[-1] + 1 :].requires_grad_(False)
        self.output_cls_token = output_cls_token
        self.out_channels = (self.vit.embed_dim,) * len(self.out_indices)

    def forward(self, image: Tensor) -> tuple[Tensor | tuple[Tensor, Tensor | None], ...]:
        """Compute maps (B, C, ceil(H / patch), ceil(W / patch)) of (B, in_chans, H, W).

        Raises:
            ValueError: If the image has another number of channels.
        """
        if image.dim() != 4 or image.shape[1] != self.vit.in_chans:
            raise ValueError(
                f'got an image of shape {tuple(image.shape)}; {self.vit.model_name!r} takes '
                f'(B, {self.vit.in_chans}, H, W): convert the images, or set '
                'vit.model_kwargs=dict(in_chans=...)'
            )
        taps, grid = tap_blocks(self.vit, image, self.out_indices)
        prefix = self.vit.num_prefix_tokens
        maps = [tokens_to_map(tokens[:, prefix:], grid) for tokens in taps]
        if self.output_cls_token:
            cls_tokens = [tokens[:, 0] if prefix else None for tokens in taps]
            return tuple(zip(maps, cls_tokens, strict=True))
        return tuple(maps)
