"""TimmViT: any isotropic timm ViT, run in chunks of blocks, on images of any size.

Adapters call `embed()` for tokens, `run_blocks(start, stop)` for some of the blocks and `to_map()`
for a feature map. The blocks are timm's, with their fused attention, LayerScale, SwiGLU and RoPE;
running them in chunks equals timm's `forward_intermediates` bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import timm
import torch
from mmengine.registry import MODELS
from timm.models import checkpoint as run_checkpointed
from torch import Tensor, nn

from ..layers import tokens_to_map
from ..weights import load_vit_weights
from ..weights.source import check_source, load_from_source
from .families import (
    Family,
    TokenContext,
    drop_unused,
    find_family,
    has_final_norm,
    layer_ids,
)
from .sharded_blocks import call_block, run_unit, shard_block
from .sync_norms import find_activations, restore_activations
from .windows import (
    Tile,
    WindowPartition,
    active_drop_paths,
    block_windows,
    own_drop_paths,
    run_dropping,
)

# Arguments of timm's models that users cannot set.
_RESERVED = {
    'num_classes',
    'pretrained',
    'drop_path_rate',
    'patch_drop_rate',
    'dynamic_img_size',
    'dynamic_img_pad',
}


@MODELS.register_module()
class TimmViT(nn.Module):
    """A timm ViT without its classifier.

    Attributes:
        model: The timm module; its parameter names are timm's.
        embed_dim: Channels C of the tokens.
        depth: Number of blocks.
        patch_size: Edge of a patch, in pixels; the token grid's stride.
        num_prefix_tokens: Number P of tokens before the patches' (cls, distillation, registers).
        in_chans: Image channels.
        mean, std: Normalisation that the weights expect, per channel, for images in 0..1.
    """

    _antialias = True  # when a weight file's positions and kernels are resized

    def __init__(
        self,
        model_name: str,
        *,
        pretrained: bool = False,
        checkpoint: str | dict[str, Any] | None = None,
        drop_path_rate: float = 0.0,
        window_size: int | Sequence[int | None] | None = None,
        global_blocks: Sequence[int] | None = None,
        grad_checkpointing: bool = False,
        frozen_stages: int = -1,
        final_norm: bool | None = False,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Build timm's model.

        Args:
            model_name: timm name, with a pretrained tag or without (timm's default tag).
            pretrained: Load timm's weights of that name in `init_weights()`. Nothing is
                downloaded earlier, so that building a model to load a checkpoint needs no network.
            checkpoint: Load this local file (.pth, .safetensors, .npz) in `init_weights()` instead.
                dict(path=..., min_matched=..., ...) passes options of `load_vit_weights` on.
            drop_path_rate: Stochastic depth, rising linearly to this rate at the last block.
            window_size: Edge of attention windows in tokens; None attends globally. A sequence
                gives each block its own.
            global_blocks: Blocks that attend globally despite `window_size`. Default: the last of
                each quarter of the depth (ViTDet): every third block at depth 12, every sixth at
                depth 24, as in the released ViT-Adapter.
            grad_checkpointing: Recompute blocks in the backward pass to save memory.
            frozen_stages: -1 trains all; n >= 0 freezes the embeddings and the first n blocks
                (no gradient, eval mode); the depth freezes the whole ViT.
            final_norm: Apply the ViT's last norm to each returned map; None: if it has one.
            model_kwargs: Further arguments of the timm model, such as `patch_size` (kernels are
                resized), `in_chans`, `img_size` or `init_values`.

        Raises:
            ValueError: If `model_name` is unknown or unsuitable, or if arguments contradict each
                other or are out of range.
        """
        super().__init__()
        _check_arguments(model_name, pretrained, checkpoint, drop_path_rate, frozen_stages)
        _check_patch_size((model_kwargs or {}).get('patch_size', 1))
        self.model_name = model_name
        self.pretrained = pretrained
        self.checkpoint = checkpoint
        self.drop_path_rate = drop_path_rate
        self.grad_checkpointing = grad_checkpointing
        self.frozen_stages = frozen_stages
        self.model_kwargs = dict(model_kwargs or {})
        self.family = self._find_family(model_name, window_size)
        self.model = self.family.trunk(self._build())
        self.final_norm = has_final_norm(self.model) if final_norm is None else final_norm
        self._activations = find_activations(self.model)
        self.model.set_grad_checkpointing(False)  # done in run_blocks
        self.family.prepare(self.model)
        own_drop_paths(self.model.blocks)
        self._check_checkpointing()
        self._check_final_norm()
        drop_unused(self.model, final_norm=self.final_norm)

        self.embed_dim: int = self.model.embed_dim
        self.depth = len(self.model.blocks)
        if not self.depth:
            raise ValueError(f'model_kwargs={model_kwargs} leave no blocks: give depth >= 1')
        self.num_prefix_tokens: int = self.model.num_prefix_tokens
        self.in_chans: int = self.model.in_chans
        self.patch_size = self._square_patch()
        self.mean: tuple[float, ...] = tuple(self.model.pretrained_cfg['mean'])
        self.std: tuple[float, ...] = tuple(self.model.pretrained_cfg['std'])
        self.window_size = window_size
        if window_size is not None and self.family.no_windows:
            raise ValueError(
                f'window_size={window_size} for {model_name!r}: {self.family.no_windows}; '
                f'leave window_size out'
            )
        self.windows = block_windows(window_size, global_blocks, self.depth)
        self.global_blocks = tuple(i for i, edge in enumerate(self.windows) if edge is None)
        self._is_init = False
        self._freeze()

    @staticmethod
    def _find_family(model_name: str, window_size: int | Sequence[int | None] | None) -> Family:
        """Return the family of a model; `window_size` as in the constructor."""
        return find_family(model_name)

    def _build(self) -> Any:
        """Build timm's model; re-raise constructor errors with a clearer message."""
        if reserved := _RESERVED & self.model_kwargs.keys():
            raise ValueError(
                f'model_kwargs holds {sorted(reserved)}: TimmViT decides on these itself, takes '
                f'drop_path_rate and pretrained as arguments, and needs every patch in its place'
            )
        try:
            return timm.create_model(
                self.model_name,
                num_classes=0,
                drop_path_rate=self.drop_path_rate,
                **self._build_kwargs(),
            )
        # A channel or block count below 0 or 1 shows as one of the last two.
        except (TypeError, ValueError, AssertionError, ZeroDivisionError, RuntimeError) as error:
            raise ValueError(
                f'timm could not build {self.model_name!r} with model_kwargs='
                f'{self.model_kwargs}: {error}'
            ) from error

    def _build_kwargs(self) -> dict[str, Any]:
        return {**self.family.build_kwargs, **self.model_kwargs}

    def _check_checkpointing(self) -> None:
        norms = [m for m in self.model.blocks.modules() if isinstance(m, nn.BatchNorm2d)]
        if self.grad_checkpointing and norms:
            raise ValueError(
                f'grad_checkpointing=True for {self.model_name!r}: its blocks have batch norms, '
                f'which would count each image twice; leave grad_checkpointing out'
            )

    def _check_final_norm(self) -> None:
        if self.final_norm and not has_final_norm(self.model):
            why = self.family.no_final_norm or (
                'timm builds none for its way of pooling; for some models model_kwargs=dict('
                "global_pool='token') or dict(fc_norm=False) asks for one"
            )
            raise ValueError(
                f'final_norm=True for {self.model_name!r} (tap_norm=True of an adapter sets it): '
                f'{why}; leave final_norm out, or tap_norm'
            )

    def _square_patch(self) -> int:
        height, width = self.family.patch_size(self.model)
        if height != width:
            raise ValueError(
                f'{self.model_name!r} has {height}x{width} patches; the pyramid of strides 4 to 32 '
                f'needs square ones: choose another model_name or model_kwargs=dict(patch_size=16)'
            )
        return height

    def embed(self, image: Tensor) -> tuple[Tensor, TokenContext]:
        """Make tokens of patches, add positions and prefix tokens.

        Args:
            image: (B, in_chans, H, W), normalised; sizes that are not multiples of the
                patch size are padded with zeros at the lower right.

        Returns:
            Tokens (B, P + h*w, C) with h = ceil(H / patch_size), and their context.
        """
        tokens, context = self.family.embed(self.model, image)
        context.cache['batch'] = image.shape[0]
        return tokens, context

    def run_blocks(self, tokens: Tensor, context: TokenContext, start: int, stop: int) -> Tensor:
        """Run blocks start..stop-1 on (B, P + h*w, C) tokens."""
        for index in range(start, stop):
            run = partial(self._run_block, context=context, index=index)
            tokens = run_unit(self.model.blocks[index], run, tokens)
        return tokens

    def _run_block(self, tokens: Tensor, context: TokenContext, index: int) -> Tensor:
        window = self.windows[index]
        if window is None:
            return self._run_tile(tokens, context, index, None)
        windows = WindowPartition(context.grid, window, self.num_prefix_tokens)
        images = tokens.shape[0]  # `len` would fix the batch of an exported graph
        # Stochastic depth skips a block for an image, not for some of its windows.
        drop_masks = [x.draw(images, tokens) for x in active_drop_paths(self.model.blocks[index])]
        parts = []
        for tile, part in zip(windows.tiles, windows.split(tokens), strict=True):
            per_window = [x.repeat_interleave(part.shape[0] // images, dim=0) for x in drop_masks]
            parts.append(self._run_tile(part, context, index, tile, *per_window))
        return windows.merge(parts)

    def _run_tile(
        self,
        tokens: Tensor,
        context: TokenContext,
        index: int,
        tile: Tile | None,
        *drop_masks: Tensor,
    ) -> Tensor:
        """Run a block on a tile's windows or (None) on all tokens; masks as in `run_dropping`."""
        kwargs = self.family.block_kwargs(self.model, context, index, tile)
        if context.attn_mask is not None:
            kwargs['attn_mask'] = context.attn_mask
        run = partial(self._run_recomputed, context, index, tile)
        block = self.model.blocks[index]
        if self.grad_checkpointing and self.training and _builds_graph(block, tokens):
            return run_checkpointed(run, tokens, *drop_masks, **kwargs)
        return run(tokens, *drop_masks, **kwargs)

    def _run_recomputed(
        self,
        context: TokenContext,
        index: int,
        tile: Tile | None,
        tokens: Tensor,
        *drop_masks: Tensor,
        **kwargs: Any,
    ) -> Tensor:
        """Run what gradient checkpointing runs again in the backward pass."""
        kwargs |= self.family.recomputed_kwargs(self.model, context, index, tile)
        block = self.model.blocks[index]
        if drop_masks:
            return run_dropping(block, tokens, *drop_masks, **kwargs)
        return call_block(block, tokens, **kwargs)

    def to_map(self, tokens: Tensor, context: TokenContext) -> Tensor:
        """Return the patch tokens as a map (B, C, h, w)."""
        return tokens_to_map(tokens[:, self.num_prefix_tokens :], context.grid)

    def init_weights(self) -> None:
        """Load the weights that the constructor names, once; never re-initialise.

        mmengine's Runner calls this before training. timm's modules have a method of this name
        that draws new random values; it is not called.

        Raises:
            CheckpointMismatchError: If the file does not match the model.
            WeightsUnavailableError: If timm's weights are not available.
        """
        if self._is_init:
            return
        self._is_init = load_from_source(
            self, lambda source: load_vit_weights(self.model, source, **self.load_options())
        )

    def load_options(self) -> dict[str, Any]:
        """Return the options of `load_vit_weights` for this ViT."""
        # kernels of another size are resized only if the user set this patch size
        options = {
            'resize_patch': 'patch_size' in self.model_kwargs,
            'antialias': self._antialias,
            'leave_out': ('cls_token',) if self._build_kwargs().get('class_token') is False else (),
        }
        given = self.checkpoint if isinstance(self.checkpoint, dict) else {}
        return options | {k: v for k, v in given.items() if k != 'path'}

    def forward(self, image: Tensor) -> Tensor:
        """Raise an error: a plain ViT has one scale, and heads for dense prediction need four.

        Raises:
            ValueError: Always; the message names the adapters.
        """
        raise ValueError(
            "backbone.type='TimmViT' has one map of one stride: wrap it in an adapter, such as "
            "backbone=dict(type='ViTAdapter', vit=dict(type='TimmViT', ...)) or "
            "type='SimpleFeaturePyramid'; for a linear probe, type='PlainViT' gives that one map"
        )

    def layer_groups(self) -> dict[str, int]:
        """Map parameter names to layers for learning-rate decay; see `families.layer_ids`."""
        return {f'model.{name}': layer for name, layer in layer_ids(self.model).items()}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that timm exempts from weight decay."""
        return {f'model.{name}' for name in self.model.no_weight_decay()}

    def shard_blocks(self, shard: Callable[[nn.Module], Any]) -> None:
        """Make each block a unit of FSDP2.

        Args:
            shard: Calls `fully_shard` on a module, with the user's options. The caller shards the
                model around this ViT afterwards. This module itself must not be a unit: adapters
                call its methods instead of `forward`.
        """
        if not self.family.shares_activations:
            for block in self.model.blocks:
                shard_block(block, shard)

    def _freeze(self) -> None:
        if not -1 <= self.frozen_stages <= self.depth:
            raise ValueError(
                f'frozen_stages={self.frozen_stages} for {self.model_name!r}: allowed are -1 '
                f'(train all), 0 (freeze embeddings) to {self.depth} (freeze all)'
            )
        layers = layer_ids(self.model)
        for name, parameter in self.model.named_parameters():
            if self.frozen_stages == self.depth or layers.get(name, 0) <= self.frozen_stages:
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> TimmViT:
        """Set the mode; frozen parts stay in eval mode (no dropout, no stochastic depth)."""
        restore_activations(self.model, self._activations)
        super().train(mode)
        if mode and self.frozen_stages == self.depth:
            self.model.eval()
        elif mode and self.frozen_stages >= 0:
            for name, child in self.model.named_children():
                if name not in ('blocks', 'norm'):
                    child.eval()
            for block in self.model.blocks[: self.frozen_stages]:
                block.eval()
        return self


def _check_arguments(
    model_name: str,
    pretrained: bool,
    checkpoint: str | dict[str, Any] | None,
    drop_path_rate: float,
    frozen_stages: int,
) -> None:
    """Check arguments, as in `TimmViT`, before anything is built.

    Raises:
        ValueError: As for `TimmViT`.
    """
    if not isinstance(model_name, str):
        raise ValueError(f'model_name={model_name!r}: give the name of a timm model')
    check_source(pretrained, checkpoint)
    if not isinstance(drop_path_rate, int | float) or not 0 <= drop_path_rate < 1:
        raise ValueError(f'drop_path_rate={drop_path_rate!r}: give a share in [0, 1)')
    if not isinstance(frozen_stages, int):
        raise ValueError(f'frozen_stages={frozen_stages!r}: give a whole number, -1 for none')


def _check_patch_size(given: Any) -> None:
    """Raise `ValueError` if `given` is neither a positive whole number nor a pair of them."""
    edges = given if isinstance(given, tuple | list) else [given, given]
    if len(edges) != len('HW') or any(type(edge) is not int or edge < 1 for edge in edges):
        raise ValueError(
            f'model_kwargs has patch_size={given!r}: give the edge of a patch in pixels, a whole '
            'number of at least 1, such as 16'
        )


def _builds_graph(block: nn.Module, tokens: Tensor) -> bool:
    """Tell whether autograd needs this block's activations."""
    if not torch.is_grad_enabled():
        return False
    return tokens.requires_grad or any(p.requires_grad for p in block.parameters())
