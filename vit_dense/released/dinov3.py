"""The segmentation adapter of DINOv3's release under our names: `ViTAdapter(inject=False)`.

It has the names of ViT-Adapter without injectors, and the ViT under `backbone.` in Meta's layout,
which `weights` converts. The file published for the 7B model lacks the ViT.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any

import timm
import torch
from torch import Tensor

from ..weights.convert import to_timm_names
from ..weights.identify import depth_of
from ..weights.match import LoadReport
from ..weights.names import bare_vit_names, strip_prefix
from .checkpoint import COMMON, Released
from .settings import HEAD_DIM, adapter_settings, width_of

__all__ = ['ReleasedDINOv3', 'recognise_dinov3']

_VIT, _OUR_VIT = 'backbone.', 'vit.model.'
_EXTRACTOR = 'interactions.0.extractor.query_norm.weight'
_INJECTOR = 'interactions.0.injector.query_norm.weight'
_SIZES = {384: 'small', 768: 'base', 1024: 'large', 1280: 'huge_plus', 4096: '7b'}
# last blocks of the stages, at the depths where they are not those of quarters
_LAST_BLOCKS = {24: (4, 11, 17, 23)}
_DROP_PATH = 0.3


class ReleasedDINOv3(Released):
    """A checkpoint of DINOv3's adapter, recognised by its names."""

    vit_hint = ''

    @property
    def vit_names(self) -> list[str]:
        """Names of the ViT's own tensors in `backbone`."""
        return [name for name in self.backbone if name.startswith(_VIT)]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The backbone's config, as far as shapes and names tell it."""
        width, depth = width_of(self.backbone), depth_of(self.backbone) or 0
        gated = any('.mlp.w1.' in name for name in self.vit_names)
        size = _SIZES.get(width, 'small')
        size += '_plus' * (gated and size == 'small')
        biases = [t for name, t in self.backbone.items() if name.endswith('.attn.qkv.bias')]
        # zero in most releases, whose models timm builds without; keys never have one
        biased = any(bool(part.any()) for bias in biases for part in bias.chunk(3)[::2])
        vit = {
            'type': 'TimmViT',
            'model_name': f'vit_{size}_patch16_dinov3{"_qkvb" * biased}',
            'frozen_stages': depth,
            'drop_path_rate': _DROP_PATH,
        }
        if width not in _SIZES:
            heads = max(1, width // HEAD_DIM)
            vit['model_kwargs'] = {'embed_dim': width, 'depth': depth, 'num_heads': heads}
        last = _LAST_BLOCKS.get(depth, [depth * i // 4 - 1 for i in range(1, 5)])
        return adapter_settings('ViTAdapter', self.backbone) | {
            'inject': False,
            'tap_norm': True,
            'vit_feature_source': 'stages',
            'interaction_indexes': list(zip((0, *(i + 1 for i in last)), last, strict=False)),
            'vit': vit,
        }

    def __str__(self) -> str:
        vit = self.settings['vit']['model_name'] if self.vit_names else 'without its ViT'
        return f'released adapter of DINOv3 ({vit})'

    def differences(self, model: Any) -> list[str]:
        """Return settings, invisible in shapes, that make a model another function than this one.

        Args:
            model: A whole model of ours, or an adapter.
        """
        adapter = getattr(model, 'backbone', model)
        ours = {
            'vit_feature_source': getattr(adapter, 'vit_feature_source', None),
            'interaction_indexes': [(i, j - 1) for i, j in getattr(adapter, 'stages', ())],
        }
        return [
            f'{name}={value!r}, but the release has {self.settings[name]!r}'
            for name, value in ours.items()
            if value != self.settings[name]
        ]

    def advice(self, report: LoadReport) -> str:
        """Return what to do where the report of `plan` shows that file and model do not fit."""
        if not self.vit_names:
            return "The file lacks the ViT: add the tensors of DINOv3's ViT, named 'backbone.*'"
        return super().advice(report)

    def convert(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return the backbone's tensors under our names; `expected` is our adapter's state dict."""
        vit, _ = self.bare_vit({})
        biased = f'{_OUR_VIT}blocks.0.attn.q_bias' in expected
        with torch.device('meta'):
            family = f'vit_small_patch16_dinov3{"_qkvb" * biased}'
            model = timm.create_model(family, depth=depth_of(vit) or 1, num_classes=0)
        named = to_timm_names(bare_vit_names(vit), model, antialias=False)
        state = {f'{_OUR_VIT}{name}': tensor for name, tensor in named.items()}
        own = {n: t for n, t in self.backbone.items() if not n.startswith(_VIT)}
        state |= {n.replace('.dwconv.dwconv.', '.dwconv.'): t for n, t in own.items()}
        return state, []

    def bare_vit(self, expected: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
        """Return the ViT's tensors alone, in Meta's layout."""
        return {name.removeprefix(_VIT): self.backbone[name] for name in self.vit_names}, []


def recognise_dinov3(tensors: Mapping[str, Tensor]) -> ReleasedDINOv3 | None:
    """Recognise DINOv3's adapter, with its head or alone; return None for other files."""
    backbone, prefix = strip_prefix(tensors, COMMON)
    wanted = _EXTRACTOR in backbone and _INJECTOR not in backbone
    if not wanted or any(name not in backbone for name in COMMON):
        return None
    if any(name.startswith(_OUR_VIT) for name in backbone):
        return None  # a checkpoint of ours
    others = {name: t for name, t in tensors.items() if not name.startswith(prefix)}
    return ReleasedDINOv3('ViTAdapter', prefix, dict(backbone), others)
