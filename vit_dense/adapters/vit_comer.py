"""ViTCoMer: convolutions of several receptive fields that interact with an unchanged ViT.

Source: ViT-CoMer (Xia et al., CVPR 2024, arXiv 2403.07392), section 3, and its release. The spatial
prior makes a pyramid of tokens at strides 8, 16 and 32. In each of four stages,
convolutions of two sizes run on the pyramid (MRFP, multi-receptive-field feature pyramid) and the
ViT's tokens are added to it; the pyramid attends to itself, and the result is added to the ViT's
tokens (CTI, CNN-transformer interaction, to the ViT); a quarter of the ViT's blocks runs; the ViT's
tokens are added to the pyramid again, which attends to itself (CTI, to the CNN). At the end the
pyramid and the ViT's maps are added. The interaction to the ViT starts with a factor of zero, so
that training starts from the pretrained ViT.

Where the paper leaves details open, this follows the release: the MRFP has no residual and two
activations in a row, and the interactions' residuals start from normalised tokens. Unlike in both,
cls and register tokens stay in the ViT, any patch size works (the two branches are resampled to
each other's grids, positions are in pixels), and image sizes need not be multiples of 32.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.registry import MODELS
from timm.layers import DropPath
from torch import Tensor, nn

from ..backbones import TimmViT
from ..layers import ConvFFN, GridSize, map_to_tokens, resample_map, tokens_to_map
from ..ops import MSDeformAttn
from .arguments import check_ratio
from .geometry import PyramidGeometry
from .interaction import (
    LAYER_NORM_EPS,
    PYRAMID_STRIDES,
    Interaction,
    InteractionAdapter,
    RunFunction,
    tokens_to_maps,
)
from .mrfp import MRFP

EXTRA_INTERACTIONS = 4  # at the end of the last stage, in all releases


class PyramidAttention(nn.Module):
    """Self-attention of the pyramid over its levels, and an FFN."""

    def __init__(self, dim: int, *, ffn_ratio: float, drop_path: float, **attn: Any) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = MSDeformAttn(dim, num_levels=len(PYRAMID_STRIDES), **attn)
        self.ffn = ConvFFN(dim, int(dim * ffn_ratio))
        self.ffn_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.drop_path = DropPath(drop_path)

    def attend(self, query: Tensor, feat: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Attend from pyramid tokens (B, S, C) to others, without a residual."""
        return self.attn(self.query_norm(query), geometry.pyramid_in_pyramid, self.feat_norm(feat))

    def feed_forward(self, pyramid: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Run the FFN on (B, S, C), with its residual."""
        return pyramid + self.drop_path(self.ffn(self.ffn_norm(pyramid), geometry.shapes))

    def forward(self, query: Tensor, feat: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Compute (B, S, C) of two sets of pyramid tokens (B, S, C)."""
        return self.feed_forward(query + self.attend(query, feat, geometry), geometry)


class CTIToVit(PyramidAttention):
    """Self-attention of the pyramid, added to the ViT's tokens with a learned factor."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(dim, **kwargs)
        self.gamma = nn.Parameter(torch.zeros(dim))

    def forward(self, patches: Tensor, pyramid: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Compute patch tokens (B, h*w, C) of these and of pyramid tokens (B, S, C)."""
        found = self.feed_forward(self.attend(pyramid, pyramid, geometry), geometry)
        return patches + self.gamma * to_patches(found, geometry)


class CTIToCnn(nn.Module):
    """Self-attention of the pyramid after the ViT's tokens were added to it.

    `cfinter` has norms of its own after these, and its residual starts from the normalised query,
    as in the release.
    """

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.cfinter = PyramidAttention(dim, **kwargs)

    def forward(self, pyramid: Tensor, patches: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Compute pyramid tokens (B, S, C) of these and of patch tokens (B, h*w, C)."""
        return self.interact(add_patches(pyramid, patches, geometry), geometry)

    def interact(self, pyramid: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Compute pyramid tokens (B, S, C) of (B, S, C)."""
        return self.cfinter(self.query_norm(pyramid), self.feat_norm(pyramid), geometry)


class ExtraCTI(CTIToCnn):
    """`CTIToCnn` with an FFN before the attention; only after the last stage."""

    def __init__(self, dim: int, *, ffn_ratio: float, drop_path: float, **attn: Any) -> None:
        super().__init__(dim, ffn_ratio=ffn_ratio, drop_path=drop_path, **attn)
        self.ffn = ConvFFN(dim, int(dim * ffn_ratio))
        self.ffn_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.drop_path = DropPath(drop_path)

    def forward(self, pyramid: Tensor, patches: Tensor, geometry: PyramidGeometry) -> Tensor:
        """Compute pyramid tokens (B, S, C) of these and of patch tokens (B, h*w, C)."""
        pyramid = add_patches(pyramid, patches, geometry)
        ffn = self.ffn(self.ffn_norm(pyramid), geometry.shapes)
        return self.interact(pyramid + self.drop_path(ffn), geometry)


class CTIBlock(Interaction):
    """Interaction with the ViT in one stage; the last stage has further ones at its end."""

    def __init__(
        self, mrfp: MRFP, to_vit: CTIToVit, to_cnn: CTIToCnn, extra: Sequence[ExtraCTI]
    ) -> None:
        super().__init__()
        self.mrfp = mrfp
        self.cti_tov = to_vit
        self.cti_toc = to_cnn
        self.extra_ctis = nn.ModuleList(extra)

    def before_blocks(
        self, patches: Tensor, pyramid: Tensor, geometry: PyramidGeometry, run: RunFunction
    ) -> tuple[Tensor, Tensor]:
        """Compute patch and pyramid tokens (B, h*w, C), (B, S, C) before the blocks."""
        # without `run`: its batch norms would count a recomputed batch twice
        pyramid = add_patches(self.mrfp(pyramid, geometry.shapes), patches, geometry)
        return run(self.cti_tov, patches, pyramid, geometry), pyramid

    def after_blocks(
        self, pyramid: Tensor, patches: Tensor, geometry: PyramidGeometry, run: RunFunction
    ) -> Tensor:
        """Compute pyramid tokens (B, S, C) of these and of patch tokens (B, h*w, C)."""
        for interaction in (self.cti_toc, *self.extra_ctis):
            pyramid = run(interaction, pyramid, patches, geometry)
        return pyramid


@MODELS.register_module()
class ViTCoMer(InteractionAdapter):
    """ViT-CoMer on a plain ViT. The defaults are the released ones for segmentation, base size.

    The releases of the two tasks differ in two arguments, `vit_feature_source` and `mrfp_ratio`.
    All have four sampling points per head and level.
    """

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        interaction_indexes: Sequence[tuple[int, int]] | None = None,
        conv_inplane: int = 64,
        deform_num_heads: int = 12,
        deform_ratio: float = 0.5,
        cffn_ratio: float = 0.25,
        mrfp_ratio: float = 1.0,
        vit_feature_source: str = 'stages',
        norm: str = 'BN',
        out_indices: Sequence[int] = (0, 1, 2, 3),
        init_cfg: dict | None = None,
    ) -> None:
        """Build the adapter.

        Args:
            vit: A `TimmViT` or its config.
            interaction_indexes: First and last block of each stage, all blocks in order.
                Default: the depth in four parts.
            conv_inplane: Channels of the spatial prior's stem.
            deform_num_heads: Heads of the deformable attention (released: 6, 6, 12 for T, S, B).
            deform_ratio: Width of its values over the ViT's (released: 1, 1, 0.5).
            cffn_ratio: Hidden width of the interactions' FFNs over the ViT's.
            mrfp_ratio: Hidden width of the MRFP over the ViT's (released: segmentation 6, 1.5, 1
                for T, S, B; detection 0.5 for all). Weights fit one value only.
            vit_feature_source: ViT maps that are added to the outputs. 'stages' adds the map after
                stage i to output i (released segmentation models); 'last' adds the last one to
                all four (released detection models); 'none' adds none.
            norm: Norm of the maps, 'BN' (synchronised under several processes by the Runner's
                `sync_bn='torch'`) or 'LN'.
            out_indices: Numbers of the maps to return, for detectors without the map of stride 4:
                (1, 2, 3) returns strides 8, 16 and 32, and builds no parameters for the other.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If an argument is out of range.
        """
        check_ratio('deform_ratio', deform_ratio, 'the width of the deformable attention')
        check_ratio('cffn_ratio', cffn_ratio, 'the hidden width of the FFNs')
        check_ratio('mrfp_ratio', mrfp_ratio, 'the hidden width of the MRFP')
        super().__init__(
            vit,
            interaction_indexes=interaction_indexes,
            vit_feature_source=vit_feature_source,
            out_indices=out_indices,
            init_cfg=init_cfg,
        )
        dim = self.vit.embed_dim
        mrfp_dim = int(dim * mrfp_ratio)
        if mrfp_dim < 2 or mrfp_dim % 2:
            raise ValueError(
                f'mrfp_ratio={mrfp_ratio} makes {mrfp_dim} channels of the width {dim}; the MRFP '
                f'halves them: choose a ratio that leaves an even number, such as 0.5 or 1.0'
            )
        attention = {
            'ffn_ratio': cffn_ratio,
            'drop_path': self.vit.drop_path_rate,
            'num_heads': deform_num_heads,
            'value_ratio': deform_ratio,
        }
        last = len(self.stages) - 1
        interactions = (
            CTIBlock(
                MRFP(dim, mrfp_dim, norm),
                CTIToVit(dim, **attention),
                CTIToCnn(dim, **attention),
                [ExtraCTI(dim, **attention) for _ in range(EXTRA_INTERACTIONS if i == last else 0)],
            )
            for i in range(len(self.stages))
        )
        self._build(interactions, conv_inplane=conv_inplane, cffn_ratio=cffn_ratio, norm=norm)

    def _geometry(
        self, vit_shape: GridSize, pyramid_shapes: list[GridSize], device: torch.device
    ) -> PyramidGeometry:
        return PyramidGeometry(
            vit_shape, self.vit.patch_size, pyramid_shapes, PYRAMID_STRIDES, device
        )


def add_patches(pyramid: Tensor, patches: Tensor, geometry: PyramidGeometry) -> Tensor:
    """Add patch tokens (B, h*w, C) to the level at stride 16 of pyramid tokens (B, S, C)."""
    levels = list(pyramid.split([h * w for h, w in geometry.shapes], dim=1))
    middle = PYRAMID_STRIDES.index(16)
    x = resample_map(
        tokens_to_map(patches, geometry.vit_shape),
        stride=geometry.patch_size,
        new_stride=geometry.strides[middle],
        size=geometry.shapes[middle],
    )
    levels[middle] = levels[middle] + map_to_tokens(x)
    return torch.cat(levels, dim=1)


def to_patches(pyramid: Tensor, geometry: PyramidGeometry) -> Tensor:
    """Sum the pyramid's levels (B, S, C) on the ViT's grid, (B, h*w, C)."""
    maps = tokens_to_maps(pyramid, geometry.shapes)
    size = geometry.vit_shape
    resampled = [
        resample_map(x, stride=stride, new_stride=geometry.patch_size, size=size)
        for x, stride in zip(maps, geometry.strides, strict=True)
    ]
    return map_to_tokens(sum(resampled[1:], resampled[0]))
