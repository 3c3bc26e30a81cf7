"""ViTAdapter: a convolutional branch that interacts with an unchanged ViT.

Source: ViT-Adapter (Chen et al. 2023), figure 4. The spatial prior makes a pyramid of tokens at
strides 8, 16 and 32. In each of four stages, an injector lets the ViT's tokens attend to the
pyramid (eq. 1), a quarter of the ViT's blocks runs, and an extractor lets the pyramid attend to the
ViT's tokens (eq. 2, 3). At the end the pyramid and the ViT's maps are added. The injectors start
with a factor of zero, so that training starts from the pretrained ViT.

Unlike in the paper, cls and register tokens stay in the ViT, any patch size works (positions are in
pixels), and image sizes need not be multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from timm.layers import DropPath
from torch import Tensor, nn

from ..backbones import TimmViT
from ..layers import ConvFFN, GridSize
from ..ops import MSDeformAttn
from .arguments import check_ratio
from .geometry import TokenGeometry
from .interaction import (
    LAYER_NORM_EPS,
    PYRAMID_STRIDES,
    Interaction,
    InteractionAdapter,
    RunFunction,
)


class Injector(nn.Module):
    """Attention of the ViT's tokens to the pyramid, added with a learned factor (eq. 1)."""

    def __init__(self, dim: int, **attn: Any) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = MSDeformAttn(dim, num_levels=3, **attn)
        self.gamma = nn.Parameter(torch.zeros(dim))

    def forward(self, patches: Tensor, pyramid: Tensor, geometry: TokenGeometry) -> Tensor:
        """Compute patch tokens (B, h*w, C) of these and of pyramid tokens (B, S, C)."""
        found = self.attn(
            self.query_norm(patches), geometry.vit_in_pyramid, self.feat_norm(pyramid)
        )
        return patches + self.gamma * found


class Extractor(nn.Module):
    """Attention of the pyramid's tokens to the ViT's, and a convolutional FFN (eq. 2, 3)."""

    def __init__(self, dim: int, *, ffn_ratio: float, drop_path: float, **attn: Any) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = MSDeformAttn(dim, num_levels=1, **attn)
        self.has_ffn = ffn_ratio > 0
        if self.has_ffn:
            self.ffn = ConvFFN(dim, int(dim * ffn_ratio))
            self.ffn_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
            self.drop_path = DropPath(drop_path)

    def forward(self, pyramid: Tensor, patches: Tensor, geometry: TokenGeometry) -> Tensor:
        """Compute pyramid tokens (B, S, C) of these and of patch tokens (B, h*w, C)."""
        pyramid = pyramid + self.attn(
            self.query_norm(pyramid), geometry.pyramid_in_vit, self.feat_norm(patches)
        )
        if not self.has_ffn:
            return pyramid
        ffn = self.ffn(self.ffn_norm(pyramid), geometry.pyramid_shapes)
        return pyramid + self.drop_path(ffn)


class InjectAndExtract(Interaction):
    """One stage's exchange with the ViT, by one injector and one or more extractors."""

    def __init__(self, injector: Injector | None, extractors: Sequence[Extractor]) -> None:
        super().__init__()
        self.injector = injector
        self.extractor = extractors[0]
        self.extra_extractors = nn.ModuleList(extractors[1:])

    def before_blocks(
        self, patches: Tensor, pyramid: Tensor, geometry: TokenGeometry, run: RunFunction
    ) -> tuple[Tensor, Tensor]:
        """Compute patch and pyramid tokens (B, h*w, C), (B, S, C) before the blocks."""
        assert self.injector is not None
        return run(self.injector, patches, pyramid, geometry), pyramid

    def after_blocks(
        self, pyramid: Tensor, patches: Tensor, geometry: TokenGeometry, run: RunFunction
    ) -> Tensor:
        """Compute pyramid tokens (B, S, C) of these and of patch tokens (B, h*w, C)."""
        return run(self.extract, pyramid, patches, geometry)

    def extract(self, pyramid: Tensor, patches: Tensor, geometry: TokenGeometry) -> Tensor:
        """Compute pyramid tokens (B, S, C) of these and of patch tokens (B, h*w, C)."""
        for extractor in (self.extractor, *self.extra_extractors):
            pyramid = extractor(pyramid, patches, geometry)
        return pyramid


@MODELS.register_module()
class ViTAdapter(InteractionAdapter):
    """ViT-Adapter on a plain ViT. The defaults are the released ones for the base size."""

    extra_extractors = 2  # after the last stage's first one

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        interaction_indexes: Sequence[tuple[int, int]] | None = None,
        conv_inplane: int = 64,
        n_points: int = 4,
        deform_num_heads: int = 12,
        deform_ratio: float = 0.5,
        cffn_ratio: float = 0.25,
        vit_feature_source: str = 'stages',
        norm: str = 'BN',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        inject: bool = True,
        tap_norm: bool = False,
        init_cfg: dict | None = None,
    ) -> None:
        """Build the adapter.

        Args:
            vit: A `TimmViT` or its config.
            interaction_indexes: First and last block of each stage, all blocks in order.
                Default: the depth in four parts.
            conv_inplane: Channels of the spatial prior's stem.
            n_points: Sampling points per head and level.
            deform_num_heads: Heads of the deformable attention (released: 6, 6, 12, 16 for
                T, S, B, L).
            deform_ratio: Width of its values over the ViT's (released: 1, 1, 0.5, 0.5).
            cffn_ratio: Hidden width of the extractor's FFN over the ViT's; 0 leaves it out (the
                released light model).
            vit_feature_source: ViT maps that are added to the outputs. 'stages' adds the map after
                stage i to output i (released segmentation models); 'last' adds the last one to
                all four (released detection models); 'none' adds none (released light model).
            norm: Norm of the maps, 'BN' (synchronised under several processes by the Runner's
                `sync_bn='torch'`) or 'LN'.
            out_indices: Numbers of the maps to return, for detectors without the map of stride 4:
                (1, 2, 3) returns strides 8, 16 and 32, and builds no parameters for the other.
            inject: False leaves the injectors out, as in DINOv3's adapter: the ViT runs first, and
                without a graph if all of it is frozen.
            tap_norm: Apply the ViT's final norm to the tokens after each stage, as in DINOv3's
                adapter; only with inject=False.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If an argument is out of range.
        """
        check_ratio('deform_ratio', deform_ratio, 'the width of the deformable attention')
        check_ratio('cffn_ratio', cffn_ratio, 'the hidden width of the FFN', may_be_zero=True)
        super().__init__(
            vit,
            interaction_indexes=interaction_indexes,
            vit_feature_source=vit_feature_source,
            out_indices=out_indices,
            init_cfg=init_cfg,
            inject=inject,
            tap_norm=tap_norm,
        )
        dim, drop_path = self.vit.embed_dim, self.vit.drop_path_rate
        attn = {'num_heads': deform_num_heads, 'num_points': n_points, 'value_ratio': deform_ratio}
        last = len(self.stages) - 1
        interactions = (
            InjectAndExtract(
                Injector(dim, **attn) if inject else None,
                [
                    Extractor(dim, ffn_ratio=cffn_ratio, drop_path=drop_path, **attn)
                    for _ in range(1 + self.extra_extractors * (i == last))
                ],
            )
            for i in range(len(self.stages))
        )
        self._build(
            interactions,
            conv_inplane=conv_inplane,
            cffn_ratio=cffn_ratio if cffn_ratio != 0 else None,
            norm=norm,
        )

    def _geometry(
        self, vit_shape: GridSize, pyramid_shapes: list[GridSize], device: torch.device
    ) -> TokenGeometry:
        return TokenGeometry(
            vit_shape, self.vit.patch_size, pyramid_shapes, PYRAMID_STRIDES, device
        )
