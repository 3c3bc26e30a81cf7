"""A frozen ViT whose features are the targets of a second objective.

Source: Feature Distillation (Wei et al. 2022): features are layer-normalised without parameters and
regressed by smooth L1 with beta 2. MaskDistill (Peng et al. 2022) predicts normalised features of
masked patches; here they are predicted of all.
"""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor

from ..backbones import TimmViT
from ..backbones.taps import tap_blocks
from ..layers import map_to_tokens, resample_map, tokens_to_map

_FULL_SCALE = 255


class Teacher:
    """A frozen `TimmViT` (`vit`), no submodule, so that no checkpoint or optimizer has it."""

    def __init__(self, vit: dict[str, Any], student: TimmViT, preprocessor: Any) -> None:
        """Build the ViT for the patches of a student.

        Args:
            vit: Arguments of the `TimmViT`.
            student: What is trained.
            preprocessor: Normalises the images, by `mean` and `std` in 0..255.

        Raises:
            ValueError: If `vit` names no weights, or takes images of other bands.
        """
        self.vit: TimmViT = MODELS.build({'type': 'TimmViT', 'final_norm': None, **vit})
        if not self.vit.pretrained and self.vit.checkpoint is None:
            raise ValueError(
                f'teacher={vit} names no weights, so its features would be random: set '
                'pretrained=True, or checkpoint="file.safetensors"'
            )
        if self.vit.in_chans != student.in_chans:
            raise ValueError(
                f'teacher={vit} takes {self.vit.in_chans} bands and vit {student.in_chans}: give '
                f'the teacher model_kwargs=dict(in_chans={student.in_chans})'
            )
        self.student, self.preprocessor = student, preprocessor
        self.vit.requires_grad_(False)
        self.vit.model.eval()  # its `training` stays on: then taps need no graph

    def check_units(self) -> None:
        """Raise `ValueError` if `mean` and `std` of three bands are not those of 0..255."""
        mean: Any = getattr(self.preprocessor, 'mean', None)
        std: Any = getattr(self.preprocessor, 'std', None)
        is_rgb = self.vit.in_chans == len(self.vit.mean)
        if is_rgb and (std is None or mean.max() > _FULL_SCALE or not 1 < std.max() <= _FULL_SCALE):
            raise ValueError(
                'A teacher needs model.data_preprocessor with mean and std of images in 0..255, as '
                'it has a normalisation of its own; LoadBands(max_value=...) scales others to that.'
            )

    def loss(self, predicted: Tensor, image: Tensor) -> Tensor:
        """Return the distance of maps (B, C', h, w) to the features of (B, in_chans, H, W)."""
        predicted = map_to_tokens(predicted).float()
        return F.smooth_l1_loss(predicted, self.targets(image), beta=2.0)

    def targets(self, image: Tensor) -> Tensor:
        """Return normalised features (B, h*w, C') of the student's patches."""
        vit, stride = self.vit, self.student.patch_size
        size = (image.shape[-2] // stride, image.shape[-1] // stride)
        vit.to(image.device)
        (tokens,), grid = tap_blocks(vit, self._normalise(image), [vit.depth - 1])
        features = tokens_to_map(tokens[:, vit.num_prefix_tokens :], grid)
        features = resample_map(features, stride=vit.patch_size, new_stride=stride, size=size)
        return F.layer_norm(map_to_tokens(features), (vit.embed_dim,))

    def _normalise(self, image: Tensor) -> Tensor:
        """Change from mean and std of the images to the teacher's; not for n bands."""
        if image.shape[1] != len(self.vit.mean):
            return image
        mean, std = _FULL_SCALE * image.new_tensor([self.vit.mean, self.vit.std])[..., None, None]
        return (image * self.preprocessor.std + self.preprocessor.mean - mean) / std
