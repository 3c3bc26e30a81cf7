"""Vision encoders of language models: DeepSeek, Qwen3, Gemma 4.

Plain ViTs with rotary positions and no prefix tokens. timm's classifiers wrap the encoder, and the
encoders end in a projection to the language model's width; dense prediction uses neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from timm.models import gemma4_vit
from torch import Tensor

from ..windows import Tile
from .base import Family, TokenContext, accept_any_size, share_drop_paths
from .rotary import EvaFamily


def encoder_of(model: Any) -> Any:
    """Return the encoder of timm's classifier, or the model if it is an encoder."""
    encoder = getattr(model, 'encoder', model)
    encoder.pretrained_cfg = model.pretrained_cfg
    return encoder


class DeepSeekFamily(EvaFamily):
    """DeepSeek's encoder: rotary positions only."""

    build_kwargs: Mapping[str, Any] = {}
    projection = 'aligner'

    def trunk(self, model: Any) -> Any:
        return encoder_of(model)

    def prepare(self, model: Any) -> None:
        accept_any_size(model)
        setattr(model, self.projection, None)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        x = model.patch_embed(image)  # (B, h, w, C)
        tokens, rope = model._pos_embed(x)
        return tokens, TokenContext((x.shape[1], x.shape[2]), rope)


class QwenFamily(DeepSeekFamily):
    """Qwen3's encoder: rotary positions, and learned ones that timm resizes to any grid."""

    projection = 'merger'
    no_final_norm = 'the encoder has none; that of the merger belongs to the language model'


class _LookedUpPositions(gemma4_vit.Gemma4PatchEmbed):
    """Table look-up; timm multiplies the table of 10240 rows with one-hot vectors instead."""

    def _position_embeddings(
        self, position_ids: Tensor, padding_positions: Tensor | None
    ) -> Tensor:
        """Look up (B, N, C) positions of (B, N, 2) columns and rows."""
        columns, rows = position_ids.unbind(-1)
        return self.position_embedding_table[0][columns] + self.position_embedding_table[1][rows]


class GemmaFamily(Family):
    """Gemma 4's encoder: tables of columns and rows, and rotary positions."""

    build_kwargs: Mapping[str, Any] = {}
    no_final_norm = 'the encoder has none; that of the classifier follows the pooling'

    def trunk(self, model: Any) -> Any:
        return encoder_of(model)

    def prepare(self, model: Any) -> None:
        model.patch_embed.__class__ = _LookedUpPositions
        share_drop_paths(model)

    def embed(self, model: Any, image: Tensor) -> tuple[Tensor, TokenContext]:
        height, width = image.shape[-2:]
        patch = self.patch_size(model)
        image = F.pad(image, (0, -width % patch[1], 0, -height % patch[0]))
        tokens, positions, _ = model.patch_embed(image)
        grid = (image.shape[-2] // patch[0], image.shape[-1] // patch[1])
        # cosines and sines, the same for all images
        rope = torch.stack(model.rotary_emb(tokens[:1], positions[:1]))  # (2, 1, h*w, D)
        return tokens, TokenContext(grid, rope)

    def keep_rope(self, rope: Tensor, keep: Tensor) -> Tensor:
        return super().keep_rope(rope, keep).squeeze(2)  # (2, B, K, D)

    def block_kwargs(
        self, model: Any, context: TokenContext, index: int, tile: Tile | None
    ) -> dict[str, Any]:
        assert context.rope is not None
        if tile not in context.cache:
            rope = context.rope
            if tile is not None:
                images = context.cache['batch']
                windows = (tile.split(x.unflatten(1, context.grid)) for x in rope)
                rope = torch.stack([x.repeat(images, 1, 1) for x in windows])
            context.cache[tile] = rope
        cosines, sines = context.cache[tile]
        return {'rope_cos': cosines, 'rope_sin': sines}
