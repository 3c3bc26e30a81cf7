"""Tokens and attention of a ViT, recorded while any model runs it.

Fused attention never forms the matrix of attention, so it is switched off while recording; timm's
blocks then compute the matrix themselves, with their rotary positions, relative biases and norms
of queries and keys. Windows are merged into one matrix of the whole grid.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ..backbones import TimmViT
from ..backbones.families import TokenContext, explicit_attention
from ..backbones.windows import WindowPartition


@dataclass
class Recording:
    """What each block of a ViT did with one image; P prefix tokens come before the grid's.

    Attributes:
        grid: (h, w) of the patch tokens.
        tokens: (P + h*w, C) after each block.
        rows: (heads, queries, P + h*w), attention of the chosen tokens in each block.
        means: (P + h*w, P + h*w), attention of all tokens in each block, averaged over heads.
    """

    grid: tuple[int, int] = (0, 0)
    tokens: list[Tensor] = field(default_factory=list)
    rows: list[Tensor] = field(default_factory=list)
    means: list[Tensor] = field(default_factory=list)


@contextmanager
def record(
    vit: TimmViT, queries: Sequence[int] | None = None, *, attention: bool = True
) -> Iterator[Recording]:
    """Record what `vit` does within the context; run one batch of one image there, in eval mode.

    Args:
        vit: A ViT, alone or inside an adapter.
        queries: Tokens whose attention is kept for each head, 0 .. P + h*w - 1; None keeps all,
            which takes heads * (P + h*w)^2 numbers for each block.
        attention: Whether to record attention; tokens are recorded always.

    Raises:
        ValueError: If blocks of this ViT do not weigh tokens by attention.
    """
    if attention and vit.family.no_attention:
        raise ValueError(
            f'{vit.model_name!r} has no attention to show: {vit.family.no_attention}. Its features '
            'and the relevance can be shown.'
        )
    recording = Recording()
    run = vit.run_blocks

    def run_blocks(tokens: Tensor, context: TokenContext, start: int, stop: int) -> Tensor:
        recording.grid = context.grid
        for index in range(start, stop):
            with ExitStack() as stack:
                calls = stack.enter_context(_calls(vit, context, index)) if attention else []
                tokens = run(tokens, context, index, index + 1)
            recording.tokens.append(tokens[0].detach())
            if attention:
                matrix = _merge(vit, context, index, calls)  # (heads, N, N)
                recording.means.append(matrix.mean(0))
                chosen = slice(None) if queries is None else torch.as_tensor(queries)
                recording.rows.append(matrix[:, chosen].clone())
        return tokens

    vit.__dict__['run_blocks'] = run_blocks
    try:
        yield recording
    finally:
        del vit.__dict__['run_blocks']


def rollout(means: Sequence[Tensor], queries: Sequence[int]) -> Tensor:
    """Follow attention from the last block to the tokens before the first.

    Source: Abnar and Zuidema 2020, section 3: the product of `0.5 A + 0.5 I` over all blocks, of
    which the identity stands for the residual connection. Rows are normalised to a sum of 1.

    Args:
        means: (N, N) attention of each block, averaged over heads.
        queries: Tokens after the last block, 0..N-1.

    Returns:
        (queries, N), the share of each input token; rows sum to 1.
    """
    size, first = means[0].shape[0], means[0]
    rows = torch.eye(size, dtype=first.dtype, device=first.device)[list(queries)]
    for mean in reversed(means):
        # a row of 0.5 A + 0.5 I, where the sum of A's row may be below 1 (padded windows of SAM)
        sums = 0.5 * mean.sum(1) + 0.5
        shares = rows / sums
        rows = 0.5 * (shares @ mean + shares)
    return rows


@contextmanager
def _calls(vit: TimmViT, context: TokenContext, index: int) -> Iterator[list[Tensor]]:
    """Collect the attention (B * windows, heads, n, n) of each call of a block."""
    block: Any = vit.model.blocks[index]
    modules = vit.family.attention_modules(block)
    parts: list[Tensor] = []
    calls: list[Tensor] = []

    def keep(owner: Any, matrix: Tensor) -> None:
        if matrix.dim() == 4 and matrix.shape[1] != owner.num_heads:
            raise ValueError(
                f'{vit.model_name!r} has no attention to show: {type(owner).__name__} of block '
                f'{index} subtracts one attention from another'
            )
        parts.append(matrix.detach())

    def finish(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        count = args[0].shape[1]
        of_tokens = [vit.family.token_attention(block, x, count, context.grid) for x in parts]
        if not of_tokens or any(x.shape[-2:] != (count, count) for x in of_tokens):
            raise ValueError(
                f'{vit.model_name!r} has no attention to show: block {index} '
                f'({type(block).__name__}) does not weigh its {count} tokens'
            )
        # parallel attentions: more heads
        calls.append(torch.cat(of_tokens, dim=1) if len(of_tokens) > 1 else of_tokens[0])
        parts.clear()

    hooks = [
        module.attn_drop.register_forward_pre_hook(
            lambda _, args, owner=module: keep(owner, args[0])
        )
        for module in modules
    ]
    hooks.append(block.register_forward_hook(finish))
    try:
        with explicit_attention(modules):
            yield calls
    finally:
        for hook in hooks:
            hook.remove()


def _merge(vit: TimmViT, context: TokenContext, index: int, calls: list[Tensor]) -> Tensor:
    """Return (heads, P + h*w, P + h*w) of a block's calls, one for each tile of its windows."""
    edge = vit.windows[index]
    if edge is not None:
        return WindowPartition(context.grid, edge, vit.num_prefix_tokens).merge_attention(calls)
    if len(calls) != 1 or len(calls[0]) != 1:
        raise ValueError(f'Attention is recorded of one image, got a batch of {len(calls[0])}.')
    return calls[0][0]
