"""What timm's isotropic ViT families do differently, and nothing else.

This is the only file that touches timm's private names. A family says with which arguments it is
built for images of any size, how an image becomes tokens, and what a block needs besides tokens.
To add one, write a `Family` subclass and enter the timm module that registers its models in
`FAMILIES`; ARCHITECTURE.md has the steps.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import timm
import torch
import torch.nn.functional as F
from timm.layers import gen_relative_position_index, resample_abs_pos_embed
from timm.models import beit, group_parameters
from torch import Tensor, nn

from .windows import Tile


@dataclass
class TokenContext:
    """What belongs to one embedded batch besides its tokens.

    Attributes:
        grid: (h, w), the patch tokens' grid.
        rope: rotary embedding (h*w, D), or (depth, heads, h*w, D) where it differs by block.
        cache: what blocks share and what is computed once per forward.
    """

    grid: tuple[int, int]
    rope: Tensor | None = None
    cache: dict[Any, Any] = field(default_factory=dict)


class Family:
    """VisionTransformer and its subclasses: learned positions, blocks that take tokens alone."""

    build_kwargs: Mapping[str, Any] = {'dynamic_img_size': True, 'dynamic_img_pad': True}

    def prepare(self, model: nn.Module) -> None:
        """Adapts a freshly built timm model to images of any size."""

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        """(B, 3, H, W) -> ((B, P + h*w, C), context), as timm's own forward does it."""
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens = model._pos_embed(model.patch_embed(image))
        return model.norm_pre(model.patch_drop(tokens)), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        """Keyword arguments of block `index`, in a tile's windows or (None) over the whole grid."""
        return {}


class EvaFamily(Family):
    """EVA, EVA-02, DINOv3, Perception Encoder: optional rotary positions, given to each block."""

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens, rope = model._pos_embed(model.patch_embed(image))
        return model.norm_pre(tokens), TokenContext(grid, rope)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        rope = context.rope
        if rope is None:
            return {'rope': None}
        mixed = model.rope_mixed  # a rotation of its own per block and head
        if tile is None:
            return {'rope': rope[index] if mixed else rope}
        key = ('rope', tile, index if mixed else None)
        if key not in context.cache:
            heads = rope[index] if mixed else rope[None]  # (heads or 1, h*w, D)
            # (heads * windows, tokens of a window, D)
            split = tile.split(heads.unflatten(1, context.grid))
            split = split.unflatten(0, (heads.shape[0], -1)).transpose(0, 1)
            context.cache[key] = split.repeat(context.cache['batch'], 1, 1, 1)
        return {'rope': context.cache[key]}


class _ExternalBiasAttention(beit.Attention):
    """BEiT attention whose relative bias comes from outside, where the token grid is known."""

    def _get_rel_pos_bias(self) -> Tensor:
        return self.relative_position_bias_table.new_zeros(())


class BeitFamily(Family):
    """BEiT, BEiT v2: relative position tables, interpolated to the grid at hand.

    Tables of the trained grid are used as they are. Others are resized bicubically in every
    forward, so that one set of parameters serves all image sizes.
    """

    build_kwargs: Mapping[str, Any] = {}

    def prepare(self, model: Any) -> None:
        model.patch_embed.strict_img_size = False
        model.patch_embed.dynamic_img_pad = True
        for block in model.blocks:
            if block.attn.relative_position_bias_table is not None:
                block.attn.__class__ = _ExternalBiasAttention

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        grid = model.patch_embed.dynamic_feat_size(tuple(image.shape[-2:]))
        tokens = model.patch_embed(image)
        tokens = torch.cat((model.cls_token.expand(len(tokens), -1, -1), tokens), dim=1)
        if model.pos_embed is not None:
            tokens = tokens + resample_abs_pos_embed(
                model.pos_embed, new_size=grid, old_size=model.patch_embed.grid_size
            )
        return model.pos_drop(tokens), TokenContext(grid)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        bias = None
        if model.rel_pos_bias is not None:  # shared by all blocks
            key = ('shared bias', tile and tile.shape)
            if key not in context.cache:
                context.cache[key] = self._bias(model, model.rel_pos_bias, tile, context)
            bias = context.cache[key]
        attn = model.blocks[index].attn
        if attn.relative_position_bias_table is not None:
            own = self._bias(model, attn, tile, context)[None]
            bias = own if bias is None else own + bias
        return {'shared_rel_pos_bias': bias}

    @staticmethod
    def _bias(model: Any, owner: Any, tile: Tile | None, context: TokenContext) -> Tensor:
        """(heads, 1 + h*w, 1 + h*w) from the table of `owner`, for the grid or a tile's windows."""
        grid = context.grid if tile is None else (tile.window, tile.window)
        shape = grid if tile is None else tile.shape
        table = owner.relative_position_bias_table  # ((2h-1)(2w-1) + 3, heads)
        trained = tuple(model.patch_embed.grid_size)
        if trained != grid:
            old = [2 * s - 1 for s in trained]
            new = [2 * s - 1 for s in grid]
            maps = table[:-3].T.unflatten(1, old)[None]  # (1, heads, 2h-1, 2w-1)
            maps = F.interpolate(maps, size=new, mode='bicubic', align_corners=False)
            table = torch.cat((maps[0].flatten(1).T, table[-3:]))
        key = ('bias index', grid, shape)
        if key not in context.cache:
            index = gen_relative_position_index(grid, class_token=True, device=table.device)
            if shape != grid:  # a smaller window is the upper left part of a whole one
                inside = torch.arange(len(index) - 1, device=table.device).unflatten(0, grid)
                inside = inside[: shape[0], : shape[1]].flatten() + 1
                inside = F.pad(inside, (1, 0))  # and the cls token
                index = index[inside[:, None], inside]
            context.cache[key] = index
        index = context.cache[key]
        return table[index.flatten()].unflatten(0, index.shape).permute(2, 0, 1).contiguous()


FAMILIES: dict[str, Family] = {
    'vision_transformer': Family(),
    'deit': Family(),
    'eva': EvaFamily(),
    'beit': BeitFamily(),
}
"""By the module of `timm.models` that registers a model."""


def find_family(model_name: str) -> Family:
    """The family of a timm model name, with or without a pretrained tag.

    Raises:
        ValueError: no such model (names the nearest), no such tag (names the model's), or a model
            that is not an isotropic ViT of a known family.
    """
    if ':' in model_name or '/' in model_name:
        raise ValueError(
            f'model_name={model_name!r}: give a name that timm.list_models() lists; for weights '
            f'from elsewhere add checkpoint="file.safetensors"'
        )
    architecture, _, tag = model_name.partition('.')
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=5)
        raise ValueError(
            f'model_name={model_name!r} is not a timm model; nearest names: '
            f'{", ".join(near) or "none"}. timm.list_models() lists all of them'
        )
    tags = [name.partition('.')[2] for name in timm.list_pretrained(f'{architecture}.*')]
    if tag and tag not in tags:
        raise ValueError(
            f'model_name={model_name!r}: timm knows no pretrained tag {tag!r} of {architecture}; '
            f'its tags: {", ".join(tags) or "none"}'
        )
    module = timm.model_entrypoint(architecture).__module__.rpartition('.')[2]
    if module not in FAMILIES:
        raise ValueError(
            f'model_name={model_name!r} comes from timm.models.{module}; TimmViT takes isotropic '
            f'ViTs from timm.models.{{{", ".join(FAMILIES)}}}, which keep one token grid in all '
            f'blocks, such as vit_base_patch16_224, deit3_small_patch16_224, '
            f'vit_small_patch14_dinov2, eva02_base_patch14_224 or beit_base_patch16_224'
        )
    return FAMILIES[module]


def drop_unused(model: Any, *, final_norm: bool) -> None:
    """Removes what dense prediction never runs, so that no parameter goes without gradient."""
    for name in ('attn_pool', 'head_dist'):
        if getattr(model, name, None) is not None:
            setattr(model, name, None)
    model.fc_norm = nn.Identity()
    if not final_norm:
        model.norm = nn.Identity()
    # DINOv2 files carry it; timm builds it for some models only
    if getattr(model, 'mask_token', None) is not None:
        model.mask_token = None


# Parameters that stand before the blocks, also where timm's matchers leave them out.
_EMBEDDINGS = (
    'patch_embed.',
    'pos_embed',
    'cls_token',
    'dist_token',
    'reg_token',
    'norm_pre.',
    'rope.',
    'rel_pos_bias.',
)


def layer_ids(model: Any) -> dict[str, int]:
    """Parameter name -> 0 for embeddings, i + 1 for block i, depth + 1 for the final norm.

    Blocks are found by timm's `group_matcher`. A parameter that is none of these is left out, for
    the caller to refuse.
    """
    found = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    ids = {}
    for name, _ in model.named_parameters():
        if name.startswith('blocks.'):
            ids[name] = int(found[name])
        elif name.startswith('norm.'):
            ids[name] = len(model.blocks) + 1
        elif name.startswith(_EMBEDDINGS):
            ids[name] = 0
    return ids
