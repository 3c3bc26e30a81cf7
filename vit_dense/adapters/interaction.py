"""Common base of ViTAdapter and ViTCoMer: a token pyramid that interacts with the ViT in stages.

The spatial prior makes tokens at strides 8, 16 and 32. The ViT's blocks run in stages, by default
four; before and after each stage the two branches interact as the subclass defines. At the end the
pyramid and the ViT's maps are added and normalised.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, cast

import torch
from mmengine.logging import MMLogger
from timm.models import checkpoint as run_checkpointed
from torch import Tensor, nn

from ..backbones import CachedTimmViT, TimmViT
from ..backbones.taps import tap_blocks
from ..layers import (
    GridSize,
    build_norm2d,
    crop_map,
    keep_channels_last,
    map_to_tokens,
    resample_map,
    tokens_to_map,
)
from ..ops import MSDeformAttn
from ..weights import recognise_foreign
from ..weights.match import require
from ..weights.names import is_left_out_map
from .base import STRIDES, MultiScaleAdapter
from .spatial_prior import SpatialPrior

LAYER_NORM_EPS = 1e-6
PYRAMID_STRIDES = STRIDES[1:]

# Calls a function with its arguments and may recompute it in the backward pass.
RunFunction = Callable[..., Tensor]


class Interaction(nn.Module, ABC):
    """Interaction of patch tokens (B, h*w, C) and pyramid tokens (B, S, C) in one stage.

    `run(function, *args)` computes `function(*args)`, with gradient checkpointing if the user asks
    for it. The function may then run twice: layers that keep statistics are called without it.
    """

    @abstractmethod
    def before_blocks(
        self, patches: Tensor, pyramid: Tensor, geometry: Any, run: RunFunction
    ) -> tuple[Tensor, Tensor]:
        """Return the patch and pyramid tokens before the blocks of the stage."""

    @abstractmethod
    def after_blocks(
        self, pyramid: Tensor, patches: Tensor, geometry: Any, run: RunFunction
    ) -> Tensor:
        """Return the pyramid tokens after the blocks of the stage."""


class InteractionAdapter(MultiScaleAdapter, ABC):
    """A ViT and a token pyramid that interact in stages.

    Subclasses call `_build` in their `__init__` and return the positions that their interactions
    need in `_geometry`.
    """

    def __init__(
        self,
        vit: dict[str, Any] | TimmViT,
        *,
        interaction_indexes: Sequence[tuple[int, int]] | None,
        vit_feature_source: str,
        out_indices: Sequence[int],
        init_cfg: dict | None,
        inject: bool = True,
        tap_norm: bool = False,
    ) -> None:
        """Check the stages.

        Args:
            vit: A `TimmViT` or its config.
            interaction_indexes: First and last block of each stage, all blocks in order; None
                divides the depth into four parts.
            vit_feature_source: 'stages', 'last' or 'none'; see the subclasses.
            out_indices: Numbers of the maps to return, rising; see the subclasses.
            init_cfg: As in mmengine.
            inject: Whether interactions change the ViT's tokens before the blocks of a stage.
            tap_norm: Apply the ViT's final norm to the tokens after each stage.

        Raises:
            ValueError: If an argument is out of range.
        """
        if tap_norm and inject:
            raise ValueError(
                'tap_norm=True with inject=True: normalised taps are for extract-only adapters; '
                'set inject=False, or leave tap_norm out'
            )
        if tap_norm and isinstance(vit, Mapping):
            vit = {**vit, 'final_norm': True}
        super().__init__(vit, init_cfg)
        self.inject = inject
        if inject and isinstance(self.vit, CachedTimmViT):
            raise ValueError(
                f"vit.type='CachedTimmViT' under {type(self).__name__}, whose trained parts change "
                "the ViT's tokens: they cannot be cached. Use type='ViTAdapter' with inject=False, "
                "or vit.type='TimmViT'."
            )
        if tap_norm and not self.vit.final_norm:
            raise ValueError('tap_norm=True: build the TimmViT with final_norm=True')
        if self.vit.final_norm and not tap_norm:
            raise ValueError(
                f'vit.final_norm=True: {type(self).__name__} has norms of its own on its maps and '
                "would leave the ViT's without a gradient; leave it out, or use "
                'SimpleFeaturePyramid'
            )
        self.stages = _check_stages(interaction_indexes, self.vit.depth)
        if vit_feature_source not in ('stages', 'last', 'none'):
            raise ValueError(
                f"vit_feature_source={vit_feature_source!r} is not one of 'stages' (segmentation "
                f"releases), 'last' (detection releases), 'none' (the light release)"
            )
        if vit_feature_source == 'stages' and len(self.stages) != len(STRIDES):
            raise ValueError(
                f"vit_feature_source='stages' adds one ViT map to each of {len(STRIDES)} outputs, "
                f'but interaction_indexes has {len(self.stages)} stages: give {len(STRIDES)}, or '
                f"set vit_feature_source='last'"
            )
        self.vit_feature_source = vit_feature_source
        self.out_indices = tuple(out_indices)
        if not out_indices or list(out_indices) != sorted({*out_indices} & {*range(len(STRIDES))}):
            raise ValueError(
                f'out_indices={list(out_indices)}: give numbers of maps in rising order, 0 to '
                f'{len(STRIDES) - 1} for the strides {STRIDES}'
            )

    def _build(
        self,
        interactions: Iterable[Interaction],
        *,
        conv_inplane: int,
        cffn_ratio: float | None,
        norm: str,
    ) -> None:
        """Add the interactions, one per stage, and the layers around them; initialise all.

        `cffn_ratio` is None if there are no FFNs.
        """
        dim = self.vit.embed_dim
        if conv_inplane < 1 or (cffn_ratio is not None and int(dim * cffn_ratio) < 1):
            raise ValueError(
                f'conv_inplane={conv_inplane} and cffn_ratio={cffn_ratio} (of width {dim}) must '
                f'each leave at least one channel'
            )
        self.out_channels = (dim,) * len(self.out_indices)
        self.spm = SpatialPrior(
            dim,
            inplanes=conv_inplane,
            in_chans=self.vit.in_chans,
            norm=norm,
            with_stride_4=0 in self.out_indices,
        )
        self.level_embed = nn.Parameter(torch.empty(len(PYRAMID_STRIDES), dim))
        self.interactions = nn.ModuleList(interactions)
        # Maps that nobody uses have no parameters, which DDP would wait for.
        self.up = nn.ConvTranspose2d(dim, dim, 2, stride=2) if 0 in self.out_indices else None
        for index in range(len(STRIDES)):
            used = index in self.out_indices
            self.add_module(f'norm{index + 1}', build_norm2d(norm, dim) if used else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Initialise the adapter's own layers as in the releases, and not the ViT."""
        nn.init.normal_(self.level_embed)
        for part in filter(None, (self.spm, self.interactions, self.up)):
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

    def _load_from_state_dict(
        self, state_dict: dict[str, Tensor], prefix: str, *args: Any, **kwargs: Any
    ) -> None:
        """Load as usual, also from the state dict of a foreign model (`weights.foreign`).

        Tensors of maps that `out_indices` leaves out are ignored. For callers that load without
        this package's hooks, such as `init_detector` of mmdet.
        """
        own = {name: t for name, t in state_dict.items() if name.startswith(prefix)}
        foreign = recognise_foreign({name[len(prefix) :]: t for name, t in own.items()})
        if foreign is not None:
            # not `state_dict()`, for which FSDP would gather all shards
            statistics = {n: t for n, t in self.named_buffers() if 'running_' in n}
            expected = {**dict(self.named_parameters()), **statistics}
            converted, report = foreign.plan(expected, 'a state dict')
            require(report, type(self).__name__, advice=foreign.advice(report))
            for name in own:
                del state_dict[name]
            state_dict.update({prefix + name: tensor for name, tensor in converted.items()})
            for difference in foreign.differences(self):
                MMLogger.get_current_instance().warning(f'{foreign}: {difference}')
        names = {prefix + name for name, _ in self.named_parameters()}
        for name in [one for one in state_dict if is_left_out_map(one, names)]:
            del state_dict[name]
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)

    @abstractmethod
    def _geometry(
        self, vit_shape: GridSize, pyramid_shapes: list[GridSize], device: torch.device
    ) -> Any:
        """Return the `geometry` of the interactions; called once per forward."""

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute the maps of `out_indices` of (B, in_chans, H, W).

        They are (B, C, H/4 .. H/32), sizes rounded up.

        Raises:
            ValueError: If the image has another number of channels, or an edge below 32 px.
        """
        self.check_image(image)
        c1, *levels = self.spm(image)
        pyramid = torch.cat(
            [map_to_tokens(x) + e for x, e in zip(levels, self.level_embed, strict=True)], dim=1
        )  # (B, S, C)
        shapes = [(x.shape[-2], x.shape[-1]) for x in levels]
        run_stages = self._run_stages if self.inject else self._run_extract_only
        pyramid, vit_maps = run_stages(image, pyramid, shapes)
        return self._merge(c1, pyramid, shapes, vit_maps)

    def _run_stages(
        self, image: Tensor, pyramid: Tensor, shapes: list[GridSize]
    ) -> tuple[Tensor, list[Tensor]]:
        """Return the pyramid tokens (B, S, C) and the ViT's map after each stage."""
        tokens, context = self.vit.embed(image)
        geometry = self._geometry(context.grid, shapes, image.device)
        vit_maps = []
        interactions = cast('Iterable[Interaction]', self.interactions)
        for interaction, (start, stop) in zip(interactions, self.stages, strict=True):
            tokens, pyramid = self._before_blocks(interaction, tokens, pyramid, geometry)
            tokens = self.vit.run_blocks(tokens, context, start, stop)
            patches = tokens[:, self.vit.num_prefix_tokens :]
            pyramid = interaction.after_blocks(pyramid, patches, geometry, self._checkpointed)
            vit_maps.append(self.vit.to_map(tokens, context))
        return pyramid, vit_maps

    def _run_extract_only(
        self, image: Tensor, pyramid: Tensor, shapes: list[GridSize]
    ) -> tuple[Tensor, list[Tensor]]:
        """As `_run_stages`, with the whole ViT first."""
        taps, grid = tap_blocks(self.vit, image, [stop - 1 for _, stop in self.stages])
        geometry = self._geometry(grid, shapes, image.device)
        vit_maps = []
        interactions = cast('Iterable[Interaction]', self.interactions)
        for interaction, tokens in zip(interactions, taps, strict=True):
            patches = tokens[:, self.vit.num_prefix_tokens :]
            pyramid = interaction.after_blocks(pyramid, patches, geometry, self._checkpointed)
            vit_maps.append(tokens_to_map(patches, grid))
        return pyramid, vit_maps

    def _before_blocks(
        self, interaction: Interaction, tokens: Tensor, pyramid: Tensor, geometry: Any
    ) -> tuple[Tensor, Tensor]:
        """Run an interaction's first half on the patch tokens, without the prefix tokens."""
        prefix, patches = tokens.tensor_split([self.vit.num_prefix_tokens], dim=1)
        patches, pyramid = interaction.before_blocks(patches, pyramid, geometry, self._checkpointed)
        tokens = torch.cat((prefix, patches), dim=1) if prefix.shape[1] else patches
        return tokens, pyramid

    def _checkpointed(self, function: Any, *args: Any) -> Tensor:
        """Call a function, with gradient checkpointing if the ViT uses it."""
        if self.vit.grad_checkpointing and self.training:
            return run_checkpointed(function, *args)
        return function(*args)

    def _merge(
        self, c1: Tensor | None, pyramid: Tensor, shapes: list[GridSize], vit_maps: list[Tensor]
    ) -> tuple[Tensor, ...]:
        """Merge pyramid tokens, stem map and ViT maps into the outputs."""
        c2, c3, c4 = tokens_to_maps(pyramid, shapes)
        if c1 is not None and self.up is not None:
            c1 = c1 + crop_map(self.up(c2), (c1.shape[-2], c1.shape[-1]))
        maps = [c1, c2, c3, c4]
        if self.vit_feature_source == 'last':
            vit_maps = [vit_maps[-1]] * len(STRIDES)
        out = []
        for index in self.out_indices:
            x = cast('Tensor', maps[index])
            if self.vit_feature_source != 'none':
                size = (x.shape[-2], x.shape[-1])
                x = x + resample_map(
                    vit_maps[index],
                    stride=self.vit.patch_size,
                    new_stride=STRIDES[index],
                    size=size,
                )
            out.append(keep_channels_last(getattr(self, f'norm{index + 1}')(x)))
        return tuple(out)


def tokens_to_maps(tokens: Tensor, shapes: Sequence[GridSize]) -> list[Tensor]:
    """Split (B, sum of h*w, C) tokens into the levels' maps (B, C, h, w), which are views."""
    levels = tokens.split([h * w for h, w in shapes], dim=1)
    return [tokens_to_map(level, shape) for level, shape in zip(levels, shapes, strict=True)]


def _check_stages(indexes: Sequence[tuple[int, int]] | None, depth: int) -> list[tuple[int, int]]:
    """Return (start, stop) of each stage's blocks."""
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
