"""LightViTAdapter: the released ViT-Adapters that extract once after the last stage."""

from __future__ import annotations

from mmengine.registry import MODELS

from ..adapters import ViTAdapter


@MODELS.register_module()
class LightViTAdapter(ViTAdapter):
    """A `ViTAdapter` that extracts once after the last stage.

    These are the released models on MAE with large-scale jitter, and the light one, which also has
    a single stage, `cffn_ratio=0` and `vit_feature_source='none'`.
    """

    extra_extractors = 0
