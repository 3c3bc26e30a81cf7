"""ViTAdapter: a convolutional branch that talks to an unchanged ViT.

Source: ViT-Adapter (Chen et al. 2023), figure 4. The spatial prior makes a pyramid of tokens at
strides 8, 16 and 32. In four stages, an injector lets the ViT's tokens look into the pyramid
(eq. 1), a quarter of the ViT's blocks runs, and an extractor lets the pyramid look into the ViT's
tokens (eq. 2, 3). At the end the pyramid and the ViT's maps are added. The injectors start with a
factor of zero, so that training starts from the pretrained ViT.

Against the paper: cls and register tokens stay in the ViT, any patch size works (positions are
taken in pixels), and image sizes need not be multiples of 32.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import torch
from mmengine.registry import MODELS
from timm.layers import DropPath
from timm.models import checkpoint as run_checkpointed
from torch import Tensor, nn

from ..backbones import TimmViT
from ..layers import (
    ConvFFN,
    GridSize,
    build_norm2d,
    crop_map,
    map_to_tokens,
    resample_map,
    tokens_to_map,
)
from ..ops import MSDeformAttn
from .base import STRIDES, MultiScaleAdapter
from .geometry import TokenGeometry
from .spatial_prior import SpatialPrior

LAYER_NORM_EPS = 1e-6


class Injector(nn.Module):
    """ViT tokens query the pyramid; what they find is added, times a learned factor (eq. 1)."""

    def __init__(self, dim: int, **attn: Any) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = MSDeformAttn(dim, num_levels=3, **attn)
        self.gamma = nn.Parameter(torch.zeros(dim))

    def forward(self, patches: Tensor, pyramid: Tensor, geometry: TokenGeometry) -> Tensor:
        """(B, h*w, C) patch tokens and (B, S, C) pyramid tokens -> (B, h*w, C)."""
        found = self.attn(
            self.query_norm(patches), geometry.vit_in_pyramid, self.feat_norm(pyramid)
        )
        return patches + self.gamma * found


class Extractor(nn.Module):
    """Pyramid tokens query the ViT's, then pass a convolutional FFN (eq. 2, 3)."""

    def __init__(self, dim: int, *, ffn_ratio: float, drop_path: float, **attn: Any) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.feat_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.attn = MSDeformAttn(dim, num_levels=1, **attn)
        self.ffn = ConvFFN(dim, int(dim * ffn_ratio))
        self.ffn_norm = nn.LayerNorm(dim, eps=LAYER_NORM_EPS)
        self.drop_path = DropPath(drop_path)

    def forward(self, pyramid: Tensor, patches: Tensor, geometry: TokenGeometry) -> Tensor:
        """(B, S, C) pyramid tokens and (B, h*w, C) patch tokens -> (B, S, C)."""
        pyramid = pyramid + self.attn(
            self.query_norm(pyramid), geometry.pyramid_in_vit, self.feat_norm(patches)
        )
        ffn = self.ffn(self.ffn_norm(pyramid), geometry.pyramid_shapes)
        return pyramid + self.drop_path(ffn)


class Interaction(nn.Module):
    """One stage's exchange with the ViT; the last stage extracts two more times."""

    def __init__(self, injector: Injector, extractors: Sequence[Extractor]) -> None:
        super().__init__()
        self.injector = injector
        self.extractor = extractors[0]
        self.extra_extractors = nn.ModuleList(extractors[1:])

    def extract(self, pyramid: Tensor, patches: Tensor, geometry: TokenGeometry) -> Tensor:
        """(B, S, C), (B, h*w, C) -> (B, S, C)."""
        for extractor in (self.extractor, *self.extra_extractors):
            pyramid = extractor(pyramid, patches, geometry)
        return pyramid


@MODELS.register_module()
class ViTAdapter(MultiScaleAdapter):
    """ViT-Adapter on a plain ViT. The defaults are the released ones for the base size."""

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
        init_cfg: dict | None = None,
    ) -> None:
        """
        Args:
            vit: a `TimmViT` or its config.
            interaction_indexes: first and last block of each stage, all blocks in order.
                Default: the depth in four parts.
            conv_inplane: channels of the spatial prior's stem.
            n_points: sampling points per head and level.
            deform_num_heads: heads of the deformable attention (released: 6, 6, 12, 16 for
                T, S, B, L).
            deform_ratio: width of its values over the ViT's (released: 1, 1, 0.5, 0.5).
            cffn_ratio: hidden width of the extractor's FFN over the ViT's.
            vit_feature_source: the ViT maps added to the outputs. 'stages' adds the map after
                stage i to output i (released segmentation models); 'last' adds the last one to
                all four (released detection models).
            norm: of the maps, 'BN' (synchronised under several processes by the Runner's
                `sync_bn='torch'`) or 'LN'.
            init_cfg: mmengine's.

        Raises:
            ValueError: an argument out of its range; the message names the allowed values.
        """
        super().__init__(vit, init_cfg)
        dim, depth = self.vit.embed_dim, self.vit.depth
        if self.vit.final_norm:
            raise ValueError(
                'vit.final_norm=True: ViTAdapter has norms of its own on its maps and would leave '
                "the ViT's without a gradient; leave it out, or use SimpleFeaturePyramid"
            )
        if min(conv_inplane, int(dim * cffn_ratio)) < 1:
            raise ValueError(
                f'conv_inplane={conv_inplane} and cffn_ratio={cffn_ratio} (of width {dim}) must '
                f'each leave at least one channel'
            )
        self.stages = self._check_stages(interaction_indexes, depth)
        if vit_feature_source not in ('stages', 'last'):
            raise ValueError(
                f"vit_feature_source={vit_feature_source!r} is not one of 'stages' (segmentation "
                f"releases), 'last' (detection releases)"
            )
        if vit_feature_source == 'stages' and len(self.stages) != len(STRIDES):
            raise ValueError(
                f"vit_feature_source='stages' adds one ViT map to each of {len(STRIDES)} outputs, "
                f'but interaction_indexes has {len(self.stages)} stages: give {len(STRIDES)}, or '
                f"set vit_feature_source='last'"
            )
        self.vit_feature_source = vit_feature_source
        self.out_channels = (dim, dim, dim, dim)

        self.spm = SpatialPrior(dim, inplanes=conv_inplane, in_chans=self.vit.in_chans, norm=norm)
        self.level_embed = nn.Parameter(torch.empty(3, dim))
        attn = {'num_heads': deform_num_heads, 'num_points': n_points, 'value_ratio': deform_ratio}
        last = len(self.stages) - 1
        self.interactions = nn.ModuleList(
            Interaction(
                Injector(dim, **attn),
                [
                    Extractor(dim, ffn_ratio=cffn_ratio, drop_path=self.vit.drop_path_rate, **attn)
                    for _ in range(3 if i == last else 1)
                ],
            )
            for i in range(len(self.stages))
        )
        self.up = nn.ConvTranspose2d(dim, dim, 2, stride=2)
        self.norm1 = build_norm2d(norm, dim)
        self.norm2 = build_norm2d(norm, dim)
        self.norm3 = build_norm2d(norm, dim)
        self.norm4 = build_norm2d(norm, dim)
        self.reset_parameters()

    @staticmethod
    def _check_stages(
        indexes: Sequence[tuple[int, int]] | None, depth: int
    ) -> list[tuple[int, int]]:
        """(start, stop) of each stage's blocks."""
        if indexes is None:
            count = len(STRIDES)
            if depth < count:
                raise ValueError(f'a ViT of {depth} blocks cannot be cut into {count} stages')
            return [(depth * i // count, depth * (i + 1) // count) for i in range(count)]
        pairs = all(isinstance(pair, Sequence) and len(pair) == 2 for pair in indexes)
        stages = [(first, last + 1) for first, last in indexes] if pairs else []
        starts = [0, *(stop for _, stop in stages)]
        in_order = all(stages[i][0] == starts[i] < stages[i][1] for i in range(len(stages)))
        if not in_order or starts[-1] != depth:
            raise ValueError(
                f'interaction_indexes={list(indexes)} must name the first and '
                f'last block of each stage and run through all of 0..{depth - 1} in order, such '
                f'as {[(depth * i // 4, depth * (i + 1) // 4 - 1) for i in range(4)]}'
            )
        return stages

    def reset_parameters(self) -> None:
        """Initialises what is the adapter's own as the release does; the ViT is not touched."""
        nn.init.normal_(self.level_embed)
        for part in (self.spm, self.interactions, self.up):
            for module in part.modules():
                if isinstance(module, nn.Linear):
                    nn.init.trunc_normal_(module.weight, std=0.02)
                    nn.init.zeros_(module.bias)
                elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
                    fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
                    nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
        for module in self.interactions.modules():
            if isinstance(module, MSDeformAttn):
                module.reset_parameters()

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """(B, in_chans, H, W) -> four maps (B, C, H/4 .. H/32), sizes rounded up.

        Raises:
            ValueError: wrong number of channels, or an edge below 32 px.
        """
        self.check_image(image)
        c1, *levels = self.spm(image)
        pyramid = torch.cat(
            [map_to_tokens(x) + e for x, e in zip(levels, self.level_embed, strict=True)], dim=1
        )  # (B, S, C)
        tokens, context = self.vit.embed(image)
        shapes = [(x.shape[-2], x.shape[-1]) for x in levels]
        geometry = TokenGeometry(
            context.grid, self.vit.patch_size, shapes, STRIDES[1:], image.device
        )
        vit_maps = []
        interactions = cast(Iterable[Interaction], self.interactions)
        for interaction, (start, stop) in zip(interactions, self.stages, strict=True):
            tokens = self._inject(interaction, tokens, pyramid, geometry)
            tokens = self.vit.run_blocks(tokens, context, start, stop)
            patches = tokens[:, self.vit.num_prefix_tokens :]
            pyramid = self._checkpointed(interaction.extract, pyramid, patches, geometry)
            vit_maps.append(self.vit.to_map(tokens, context))
        return self._merge(c1, pyramid, shapes, vit_maps)

    def _inject(
        self, interaction: Interaction, tokens: Tensor, pyramid: Tensor, geometry: TokenGeometry
    ) -> Tensor:
        """Runs the injector on the patch tokens; prefix tokens pass by."""
        prefix, patches = tokens.tensor_split([self.vit.num_prefix_tokens], dim=1)
        patches = self._checkpointed(interaction.injector, patches, pyramid, geometry)
        return torch.cat((prefix, patches), dim=1) if prefix.shape[1] else patches

    def _checkpointed(self, function: Any, *args: Any) -> Tensor:
        """Recomputes in the backward pass where the ViT does."""
        if self.vit.grad_checkpointing and self.training:
            return run_checkpointed(function, *args)
        return function(*args)

    def _merge(
        self, c1: Tensor, pyramid: Tensor, shapes: list[GridSize], vit_maps: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Pyramid tokens, stem map and ViT maps -> the four outputs."""
        split = pyramid.split([h * w for h, w in shapes], dim=1)
        c2, c3, c4 = (tokens_to_map(x, shape) for x, shape in zip(split, shapes, strict=True))
        size = (c1.shape[-2], c1.shape[-1])
        maps = [c1 + crop_map(self.up(c2), size), c2, c3, c4]
        if self.vit_feature_source == 'last':
            vit_maps = [vit_maps[-1]] * len(STRIDES)
        norms = (self.norm1, self.norm2, self.norm3, self.norm4)
        return tuple(
            norm(
                x
                + resample_map(
                    vit_map,
                    stride=self.vit.patch_size,
                    new_stride=stride,
                    size=(x.shape[-2], x.shape[-1]),
                )
            )
            for norm, x, vit_map, stride in zip(norms, maps, vit_maps, STRIDES, strict=True)
        )
