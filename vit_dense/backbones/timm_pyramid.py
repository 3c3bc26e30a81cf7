"""TimmPyramid: a hierarchical timm model as a backbone with maps at strides 4, 8, 16 and 32.

For Swin, ConvNeXt, MobileViT, PVTv2, Hiera, ResNet and all other models with timm's
`forward_intermediates`; layers that no map needs are removed. When a model is built, a probe tests
that its maps have these strides for images of any size (`pyramid_probe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from timm.layers import DropPath
from timm.models import group_parameters
from torch import Tensor, nn

from ..layers import build_norm2d, crop_map
from ..weights import LoadReport, load_pyramid_weights
from ..weights.source import check_source, load_from_source
from .families import find_pyramid_family
from .pyramid_probe import STRIDES, Probe, probe
from .sync_norms import find_activations, restore_activations

_RESERVED = {'num_classes', 'pretrained', 'drop_path_rate', 'features_only', 'out_indices'}


@MODELS.register_module()
class TimmPyramid(nn.Module):
    """Four maps of a hierarchical timm model.

    Attributes:
        model: The timm module; its parameter names are timm's.
        out_channels: Channels of the four maps, for the heads' `in_channels`.
        in_chans: Image channels.
        mean, std: The weights' normalisation, in 0..1 per channel.
    """

    def __init__(
        self,
        model_name: str,
        *,
        pretrained: bool = False,
        checkpoint: str | None = None,
        drop_path_rate: float = 0.0,
        norm: str | None = None,
        norm_eval: bool = False,
        grad_checkpointing: bool = False,
        frozen_stages: int = -1,
        model_kwargs: dict[str, Any] | None = None,
    ) -> None:
        """Build timm's model.

        Args:
            model_name: timm name, with a pretrained tag or without (timm's default tag).
            pretrained: Load timm's weights of that name in `init_weights()`, and not earlier.
            checkpoint: Load this local file in `init_weights()` instead.
            drop_path_rate: Rate of stochastic depth, as defined by the model's constructor.
            norm: Norm on each map, 'LN' (over channels; usual for dense prediction with Swin and
                ConvNeXt, whose maps are sums of residuals) or 'BN'. None returns timm's maps
                unchanged.
            norm_eval: Keep the pretrained statistics of batch norms, as detectors with few images
                per process do.
            grad_checkpointing: Recompute activations in the backward pass, where timm does.
            frozen_stages: -1 trains all, 0 freezes the stem, n in 1..4 freezes all that the first
                n maps depend on (no gradient, eval mode).
            model_kwargs: Further arguments of the timm model, such as `in_chans`, or MaxViT's
                `img_size`, which sets its windows and the multiple that sizes are padded to.

        Raises:
            ValueError: If `model_name` is unknown, a plain ViT, without the four strides or bound
                to one image size, or if arguments contradict each other or are out of range.
        """
        super().__init__()
        check_source(pretrained, checkpoint)
        if isinstance(checkpoint, dict):
            raise ValueError(
                f'checkpoint={checkpoint!r}: TimmPyramid loads all of a file or nothing and has no '
                f'options: give the path alone'
            )
        if not 0 <= drop_path_rate < 1:
            raise ValueError(f'drop_path_rate={drop_path_rate}: give a share in [0, 1)')
        if not -1 <= frozen_stages <= len(STRIDES):
            raise ValueError(
                f'frozen_stages={frozen_stages}: allowed are -1 (train all), 0 (freeze the stem) '
                f'to {len(STRIDES)} (freeze all)'
            )
        self.model_name = model_name
        self.pretrained = pretrained
        self.checkpoint = checkpoint
        self.drop_path_rate = drop_path_rate
        self.norm_eval = norm_eval
        self.frozen_stages = frozen_stages
        self.model_kwargs = dict(model_kwargs or {})
        self.family = find_pyramid_family(model_name)
        self.model = self._build()
        self._activations = find_activations(self.model)
        self._indices = self._prune(self.model)
        self._divisor = self.family.divisor(self.model)
        found = self._probe()
        self.out_channels = found.channels
        if grad_checkpointing:
            self._checkpoint_gradients()

        self.in_chans = int(self.model.in_chans)
        self.mean: tuple[float, ...] = tuple(self.model.pretrained_cfg['mean'])
        self.std: tuple[float, ...] = tuple(self.model.pretrained_cfg['std'])
        self.norms = nn.ModuleList(build_norm2d(norm, c) for c in self.out_channels if norm)
        self._is_init = False
        self._freeze(found.parameters_per_map)

    def _build(self) -> Any:
        """Build the whole timm model, on the current default device."""
        if reserved := _RESERVED & self.model_kwargs.keys():
            raise ValueError(
                f'model_kwargs holds {sorted(reserved)}: TimmPyramid decides on these itself and '
                f'takes drop_path_rate and pretrained as arguments'
            )
        kwargs = {**self.family.build_kwargs, **self.model_kwargs}
        if self.drop_path_rate:
            kwargs['drop_path_rate'] = self.drop_path_rate
        try:
            model = timm.create_model(self.model_name, num_classes=0, **kwargs)
        except (TypeError, ValueError, AssertionError, ZeroDivisionError, RuntimeError) as error:
            raise ValueError(
                f'timm could not build {self.model_name!r} with {kwargs}: {error}'
            ) from error
        self.family.prepare(model)
        if not self.drop_path_rate:  # some models have a rate by default
            for module in model.modules():
                if isinstance(module, DropPath):
                    module.drop_prob = 0.0
        return model

    def _prune(self, model: Any) -> list[int]:
        """Remove the layers after the last map; return the maps' indices in timm's list."""
        entries = getattr(model, 'feature_info', None)
        entries = getattr(entries, 'info', entries) or []
        strides = [entry['reduction'] for entry in entries]
        if not hasattr(model, 'forward_intermediates') or not set(STRIDES) <= set(strides):
            have = sorted(set(strides)) or 'none'
            raise ValueError(
                f'{self.model_name!r} has maps of strides {have}; TimmPyramid needs all of '
                f'{list(STRIDES)}: choose a hierarchical model such as swin_tiny_patch4_window7_224'
                f', convnext_tiny, mobilevitv2_100 or resnet50'
            )
        last = len(strides) - 1
        indices = [last - strides[::-1].index(stride) for stride in STRIDES]
        if hasattr(model, 'prune_intermediate_layers'):
            indices = model.prune_intermediate_layers(indices, prune_norm=True, prune_head=True)
        return list(indices)

    def _probe(self) -> Probe:
        """Probe a copy on the meta device."""
        with torch.enable_grad(), torch.device('meta'):
            twin = self._build().eval()
            self._prune(twin)
        return probe(
            self.model_name,
            twin,
            partial(self._run, twin),
            in_chans=twin.in_chans,
            divisor=self._divisor,
        )

    def _run(self, model: Any, image: Tensor) -> list[Tensor]:
        """Map (B, C, h, w) of an image whose size the family's divisor divides."""
        self.family.set_size(model, (image.shape[-2], image.shape[-1]))
        return model.forward_intermediates(
            image, indices=self._indices, intermediates_only=True, output_fmt='NCHW'
        )

    def _checkpoint_gradients(self) -> None:
        try:
            self.model.set_grad_checkpointing(True)
        except (AssertionError, AttributeError) as error:
            raise ValueError(
                f'grad_checkpointing=True: timm cannot do it for {self.model_name!r} ({error}); '
                f'leave it out'
            ) from error

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute four maps (B, out_channels[i], H/4 .. H/32), sizes rounded up.

        Sizes that are not multiples of 32 (for a few models: of more) are padded with zeros at the
        lower right.

        Raises:
            ValueError: If the image has another number of channels, or an edge below 32 px.
        """
        smallest, (height, width) = STRIDES[-1], image.shape[-2:]
        if image.dim() != 4 or image.shape[1] != self.in_chans or min(height, width) < smallest:
            raise ValueError(
                f'got an image of shape {tuple(image.shape)}; {self.model_name!r} takes '
                f'(B, {self.in_chans}, H, W) with H, W >= {smallest}: resize or pad the images, '
                f'convert their channels, or set model_kwargs=dict(in_chans=...)'
            )
        padding = (0, -width % self._divisor, 0, -height % self._divisor)
        maps = self._run(self.model, F.pad(image, padding))
        maps = [
            crop_map(x, (-(-height // s), -(-width // s)))
            for x, s in zip(maps, STRIDES, strict=True)
        ]
        if self.norms:
            maps = [norm(x) for norm, x in zip(self.norms, maps, strict=True)]
        return tuple(maps)

    def init_weights(self) -> None:
        """Load the weights that the constructor names, once; never re-initialise.

        mmengine's Runner calls this before training.

        Raises:
            CheckpointMismatchError: If the file does not have all of the model's weights.
            WeightsUnavailableError: If timm's weights are not available.
        """
        if self._is_init:
            return
        self._is_init = load_from_source(self, self._load)

    def _load(self, source: Path | dict[str, Tensor]) -> LoadReport:
        with torch.device('meta'):
            whole = self._build()
        return load_pyramid_weights(self.model, source, whole=whole)

    @property
    def depth(self) -> int:
        """The number of layers that timm counts, without the stem."""
        return max(self._layers().values())

    def layer_groups(self) -> dict[str, int]:
        """Map parameter names to layers for learning-rate decay, counted by timm's `group_matcher`.

        Norms on the maps are trained at the full rate, as the heads are.

        Raises:
            ValueError: If timm does not say which layers the model has.
        """
        layers = {f'model.{name}': layer for name, layer in self._layers().items()}
        own = {f'norms.{name}': self.depth + 1 for name, _ in self.norms.named_parameters()}
        return layers | own

    def _layers(self) -> dict[str, int]:
        """Map timm's parameter names to layers, 0 for the stem."""
        if not hasattr(self.model, 'group_matcher'):
            raise ValueError(
                f'timm does not say which layers {self.model_name!r} has: train it without '
                f"constructor='LayerDecayOptimWrapperConstructor' and without frozen_stages=0"
            )
        matcher = self.model.group_matcher(coarse=False)
        groups = group_parameters(self.model, matcher, reverse=True)
        return {name: int(layer) for name, layer in groups.items()}

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters that timm exempts from weight decay."""
        exempt: set[str] = getattr(self.model, 'no_weight_decay', set)()
        return {f'model.{name}' for name in exempt}

    def _freeze(self, parameters_per_map: Sequence[frozenset[str]]) -> None:
        """Freeze the stages of `frozen_stages`, and all parameters that no map depends on."""
        stem = set()
        if self.frozen_stages == 0:
            stem = {name for name, layer in self._layers().items() if layer == 0}
        used = frozenset().union(*parameters_per_map)
        frozen = frozenset().union(*parameters_per_map[: max(0, self.frozen_stages)])
        for name, parameter in self.model.named_parameters():
            if name in frozen | stem or name not in used:
                parameter.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> TimmPyramid:
        """Set the mode; frozen parts, and batch norms with `norm_eval`, stay in eval mode."""
        restore_activations(self.model, self._activations)
        super().train(mode)
        if not mode:
            return self
        for module in self.model.modules():
            parameters = list(module.parameters())
            frozen = bool(parameters) and not any(p.requires_grad for p in parameters)
            if frozen or (self.norm_eval and isinstance(module, nn.modules.batchnorm._NormBase)):
                module.eval()
        return self
