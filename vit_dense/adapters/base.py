"""The contract of all adapters: an image in, four maps at strides 4, 8, 16 and 32 out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..backbones import TimmViT
from ..weights import LoadReport, recognise_foreign
from ..weights.match import compare, require
from ..weights.names import strip_prefix
from ..weights.read import read_tensors

STRIDES = (4, 8, 16, 32)
MIN_IMAGE_SIZE = 32
_MIN_PRETRAINED = 0.9  # share of the parameters that a file for `init_cfg` must have


class MultiScaleAdapter(BaseModule):
    """Base class: owns the ViT, checks images, knows the sizes of the maps.

    Subclasses set `out_channels` and implement `forward`. Weights: mmengine's Runner calls
    `init_weights()`, which reaches `TimmViT.init_weights` and draws nothing new; adapters
    initialise their own layers when built.

    Attributes:
        vit: the `TimmViT`.
        out_channels: channels of the maps, for the heads' `in_channels`.
    """

    out_channels: tuple[int, ...]

    def __init__(self, vit: dict[str, Any] | TimmViT, init_cfg: dict | None = None) -> None:
        """Build the ViT.

        Args:
            vit: a `TimmViT` or its config.
            init_cfg: mmengine's, for weights of the whole backbone (`type='Pretrained'`).
        """
        super().__init__(init_cfg=init_cfg)
        self.vit = vit if isinstance(vit, TimmViT) else MODELS.build(vit)
        if not isinstance(self.vit, TimmViT):
            raise ValueError(
                f'vit is a {type(self.vit).__name__}: an adapter sits on a plain ViT, such as '
                f"vit=dict(type='TimmViT', model_name='vit_base_patch16_224')"
            )

    def init_weights(self) -> None:
        """Initialise as mmengine does; a file of `init_cfg=dict(type='Pretrained')` must fit.

        Raises:
            CheckpointMismatchError: If most of the file or of the backbone would go unused.
        """
        config = self.init_cfg
        if isinstance(config, Mapping) and config.get('type') == 'Pretrained':
            _check_pretrained(self, str(config['checkpoint']), config.get('prefix') or '')
        super().init_weights()

    def check_image(self, image: Tensor) -> None:
        """Refuse what cannot become a pyramid.

        Raises:
            ValueError: If it is not (B, in_chans, H, W) with H, W >= 32.
        """
        if image.dim() != 4 or image.shape[1] != self.vit.in_chans:
            raise ValueError(
                f'got an image of shape {tuple(image.shape)}; {self.vit.model_name!r} takes '
                f'(B, {self.vit.in_chans}, H, W). Convert grayscale and RGBA images to '
                f'{self.vit.in_chans} channels, or set vit.model_kwargs=dict(in_chans=...)'
            )
        if min(image.shape[-2:]) < MIN_IMAGE_SIZE:
            height, width = image.shape[-2:]
            raise ValueError(
                f'got an image of {height}x{width} px (height x width); the stride-32 map needs '
                f'at least {MIN_IMAGE_SIZE}x{MIN_IMAGE_SIZE}: resize or pad the images'
            )

    @staticmethod
    def map_sizes(image: Tensor) -> list[tuple[int, int]]:
        """Return (h, w) of the four maps: image sizes over the strides, rounded up."""
        height, width = image.shape[-2:]
        return [(-(-height // s), -(-width // s)) for s in STRIDES]


def _check_pretrained(module: nn.Module, path: str, prefix: str) -> None:
    """Refuse a file of which mmengine would load what fits and warn of the rest."""
    if '://' in path:
        return  # mmengine fetches it
    tensors, *_ = read_tensors(path)
    start = f'{prefix.rstrip(".")}.' if prefix else ''
    inside = {n[len(start) :]: t for n, t in tensors.items() if n.startswith(start)}
    if recognise_foreign(inside) is not None:
        return  # checked where it is loaded
    own = dict(module.named_parameters())
    report = LoadReport(path, prefix=start)
    compare(inside, own, report)
    below, found = strip_prefix(tensors, own.keys())
    other = LoadReport(path)
    compare(below, own, other)
    advice = (
        f'init_cfg: add prefix={found!r}'
        if found != start and other.matched >= _MIN_PRETRAINED
        else 'init_cfg takes the whole backbone; weights of a ViT alone go into vit.checkpoint'
    )
    name = type(module).__name__
    require(report, name, min_matched=_MIN_PRETRAINED, leftovers=True, advice=advice)
