"""EoMT: a plain ViT that segments by queries among its own tokens.

    image -> embed -> blocks -> [queries] -> last blocks -> norm -> mask logits, class scores
                                    \\___ while training: predict, mask the attention ___/

Source: Encoder-only Mask Transformer (Kerssies et al., CVPR 2025). The last blocks process learned
queries together with the patch tokens, so that no adapter and no decoder is needed. While training,
each of these blocks is preceded by a prediction, and queries attend only to patches inside of their
predicted masks; the share of such queries is annealed to zero, block by block. At test time no
attention is masked.

`EoMT` is the backbone of an mmseg `EncoderDecoder`; `EoMTHead` has class scores and losses.
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from ..backbones import CachedTimmViT, TimmViT
from ..backbones.families import TokenContext
from ..layers import crop_map, tokens_to_map

_POWER = 0.9  # of the annealing


@MODELS.register_module()
class EoMT(BaseModule):
    """A `TimmViT` whose last blocks also process queries, and their masks.

    Attributes:
        vit: The `TimmViT`.
        out_channels: Channels of the queries, for `in_channels` of the head.
    """

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        num_queries: int = 100,
        num_blocks: int = 3,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build the ViT, the queries and what makes masks of them.

        Args:
            vit: A `TimmViT` or its config, with `final_norm=True`.
            num_queries: Number Q of queries; each is one segment or none.
            num_blocks: Number of last blocks that process queries: 3 for ViT-S and B, 4 for L, 5
                for g in the release.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If an argument is out of range, or if the blocks of this ViT take no queries
                or no attention mask.
        """
        super().__init__(init_cfg)
        self.vit = vit if isinstance(vit, TimmViT) else MODELS.build(vit)
        _check_vit(self.vit, num_blocks)
        self.num_blocks = num_blocks
        width = self.vit.embed_dim
        self.out_channels = (width,)
        self.queries = nn.Embedding(num_queries, width)
        self.mask_head = nn.Sequential(
            nn.Linear(width, width), nn.GELU(), nn.Linear(width, width), nn.GELU(),
            nn.Linear(width, width),
        )  # fmt: skip
        steps = max(1, int(math.log2(self.vit.patch_size)) - 2)  # stride 4 for patches of 16
        self.upscale = nn.Sequential(*(_upscale_step(width) for _ in range(steps)))

    def forward(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Predict before each of the last blocks (while training) and after the last one.

        Args:
            image: (B, in_chans, H, W), normalised.

        Returns:
            Normalised queries (B, Q, C) and mask logits (B, Q, h, w) of each prediction; the masks
            cover the image exactly. In evaluation mode they have its size, (B, Q, H, W).
        """
        predictions = []
        depth = self.vit.depth
        tokens, context = self.vit.embed(image)
        tokens = self.vit.run_blocks(tokens, context, 0, depth - self.num_blocks)
        tokens = self.vit.family.add_queries(self.vit.model, tokens, context, self.queries.weight)
        for number in range(self.num_blocks):
            if self.training:
                queries, masks = self.predict(tokens, context)
                predictions.append((queries, masks))
                context.attn_mask = self.attention_mask(masks, context, number)
            block = depth - self.num_blocks + number
            tokens = self.vit.run_blocks(tokens, context, block, block + 1)
        predictions.append(self.predict(tokens, context))
        size = (image.shape[-2], image.shape[-1])
        return [(queries, self._fit(masks, context, size)) for queries, masks in predictions]

    def predict(self, tokens: Tensor, context: TokenContext) -> tuple[Tensor, Tensor]:
        """Return normalised queries (B, Q, C) and mask logits (B, Q, h * 2^k, w * 2^k)."""
        prefix, count = self.vit.num_prefix_tokens, self.queries.num_embeddings
        tokens = self.vit.model.norm(tokens)
        queries = tokens[:, prefix : prefix + count]
        pixels = self.upscale(tokens_to_map(tokens[:, prefix + count :], context.grid))
        return queries, torch.einsum('bqc,bchw->bqhw', self.mask_head(queries), pixels)

    @torch.compiler.disable
    def attention_mask(self, masks: Tensor, context: TokenContext, number: int) -> Tensor | None:
        """Return the attention mask of a block: queries attend to patches in their masks alone.

        Queries always attend to prefix tokens and queries, all other tokens to every token.

        Args:
            masks: Mask logits (B, Q, ...) of the prediction before the block.
            context: Of the tokens.
            number: Of the block, among the last ones.

        Returns:
            (B, 1, N, N), N = P + Q + h*w, True where a token (row) attends to another one; None if
            masking has ended.
        """
        share = self.masked_share(number)
        if share == 0:
            return None
        prefix, count = self.vit.num_prefix_tokens, self.queries.num_embeddings
        masks = F.interpolate(masks.detach(), context.grid, mode='bilinear').flatten(2)
        unmasked = torch.rand(masks.shape[:2], device=masks.device) >= share  # (B, Q)
        total = prefix + count + masks.shape[-1]
        attends = masks.new_ones(len(masks), 1, total, total, dtype=torch.bool)
        attends[:, 0, prefix : prefix + count, prefix + count :] = (masks > 0) | unmasked[..., None]
        return attends

    def masked_share(self, number: int) -> float:
        """Return the share of queries with masked attention in a block, at this iteration.

        As released for DINOv2, it falls from 1 to 0 within a sixth of the training: for the first
        block from 1/6 on, for the last from 2/3. Outside of a training of mmengine it is 1.
        """
        hub = MessageHub.get_current_instance()
        length = hub.get_info('max_iters', None)
        progress = hub.get_info('iter', 0) / length if length else 0.0
        begin = 1 / 6 + number / (2 * max(self.num_blocks - 1, 1))
        return float((1 - min(max(6 * (progress - begin), 0.0), 1.0)) ** _POWER)

    def _fit(self, masks: Tensor, context: TokenContext, size: tuple[int, int]) -> Tensor:
        """Crop masks of whole patches to the image; in training as they are, if they fit."""
        padded = (context.grid[0] * self.vit.patch_size, context.grid[1] * self.vit.patch_size)
        if self.training and padded == size:
            return masks
        return crop_map(F.interpolate(masks, padded, mode='bilinear'), size)


@MODELS.register_module('EoMTHead')
def build_eomt_head(**options: Any) -> nn.Module:
    """Build an `EoMTHead`; other models of mmseg do not need mmdet, which it imports."""
    from .eomt_head import EoMTHead

    return EoMTHead(**options)


def _upscale_step(width: int) -> nn.Sequential:
    """Double the size of a map."""
    return nn.Sequential(
        nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
        nn.GELU(),
        nn.Conv2d(width, width, kernel_size=3, padding=1, groups=width, bias=False),
        LayerNorm2d(width),
    )


def _check_vit(vit: nn.Module, num_blocks: int) -> None:
    """Raise `ValueError` if the last blocks of `vit` cannot process queries."""
    if not isinstance(vit, TimmViT):
        raise ValueError(
            f'EoMT got vit.type={type(vit).__name__!r}: queries join the tokens of a plain ViT, '
            "not of a hierarchical model. Give vit=dict(type='TimmViT', model_name=...)"
        )
    if isinstance(vit, CachedTimmViT):
        raise ValueError(
            "EoMT got vit.type='CachedTimmViT', but queries change the tokens of the last blocks, "
            "which therefore cannot be cached: use vit.type='TimmViT'"
        )
    if not 1 <= num_blocks <= vit.depth:
        raise ValueError(
            f'num_blocks={num_blocks}: {vit.model_name!r} has {vit.depth} blocks, of which 1 to '
            'all can process queries; released are 3 (S, B), 4 (L) and 5 (g)'
        )
    blocks = range(vit.depth - num_blocks, vit.depth)
    if not all(vit.family.takes_queries(vit.model.blocks[i]) for i in blocks):
        raise ValueError(
            f'EoMT cannot use {vit.model_name!r}: its blocks take no attention mask. Choose a ViT '
            'such as vit_small_patch14_reg4_dinov2 or vit_small_patch16_dinov3'
        )
    if any(vit.windows[i] is not None for i in blocks):
        raise ValueError(
            f'EoMT got vit.window_size={vit.window_size}, but queries attend to the whole image: '
            f'leave it out, or add the blocks {[*blocks]} to vit.global_blocks'
        )
    if not vit.final_norm:
        raise ValueError(
            f'EoMT predicts from normalised tokens: set vit.final_norm=True ({vit.model_name!r})'
        )
