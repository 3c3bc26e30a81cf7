"""MaskedAutoencoder: pretraining of a ViT by predicting the patches that it does not see.

    image -> embed -> [visible patches] -> blocks -> decoder on all patches -> pixels, features

Source: Masked Autoencoders Are Scalable Vision Learners (He et al. 2022). Learned positions start
at sine-cosine values and are trained, where the release freezes them; the ViT's other random values
are timm's. With a `teacher`, the decoder also predicts the features of another ViT (`teacher.py`).
"""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor

from ..backbones import TimmViT
from ..backbones.dropping import check_dropping, keep_patches
from ..backbones.families import TokenContext, start_positions
from .decoder import MaskedDecoder
from .teacher import Teacher


@MODELS.register_module()
class MaskedAutoencoder(BaseModel):
    """A `TimmViT` on the visible patches of images, and a decoder for all patches.

    Attributes:
        vit: The `TimmViT`, with its final norm if timm builds one; `vit.model.*` in a checkpoint.
        decoder: The `MaskedDecoder`; its `heads` are the objectives of a weight above 0.
        teacher: The `Teacher` or None; in no checkpoint.
    """

    def __init__(
        self,
        vit: dict[str, Any],
        *,
        mask_ratio: float = 0.75,
        decoder: dict[str, int] | None = None,
        norm_pixels: bool = True,
        teacher: dict[str, Any] | None = None,
        loss_weights: dict[str, float] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        """Build encoder, decoder and teacher.

        Args:
            vit: Arguments of a `TimmViT`, which starts from the weights that they name, or from
                random values.
            mask_ratio: Share of masked patches, between 0 and 1.
            decoder: dict(width=512, depth=8, heads=16), or some of these.
            norm_pixels: Predict pixels relative to mean and deviation of their patch.
            teacher: Arguments of a frozen `TimmViT` with weights, of any patch size.
            loss_weights: dict(pixels=1.0, features=1.0), or one of these; `features` needs a
                teacher, and 0 leaves an objective out.
            data_preprocessor: As in mmengine.
            init_cfg: As in mmengine.

        Raises:
            ValueError: If an argument is out of range, or if the ViT needs all patches.
        """
        super().__init__(data_preprocessor, init_cfg)
        if not 0 < mask_ratio < 1:
            raise ValueError(f'mask_ratio={mask_ratio}: give a share between 0 and 1, as 0.75')
        self.mask_ratio = mask_ratio
        self.norm_pixels = norm_pixels
        self.loss_weights = _check_weights(loss_weights, has_teacher=teacher is not None)
        self.vit: TimmViT = MODELS.build({'type': 'TimmViT', 'final_norm': None, **vit})
        check_dropping(self.vit)
        if not any(one.requires_grad for one in self.vit.parameters()):
            raise ValueError(
                f'vit={vit} is frozen, so nothing of it would be pretrained: leave frozen_stages '
                "out, and set type='TimmViT'"
            )
        start_positions(self.vit.model)
        channels = {'pixels': self.vit.in_chans * self.vit.patch_size**2}
        self.teacher: Teacher | None = None
        if teacher is not None and self.loss_weights['features']:
            self.teacher = Teacher(teacher, self.vit, self.data_preprocessor)
            channels['features'] = self.teacher.vit.embed_dim
        outputs = {name: n for name, n in channels.items() if self.loss_weights[name]}
        self.decoder = MaskedDecoder(self.vit.embed_dim, outputs, **(decoder or {}))

    def forward(self, inputs: Tensor, data_samples: Any = None, mode: str = 'tensor') -> Any:
        """Return losses (mode 'loss'), features ('tensor') or a dict for each image ('predict')."""
        if mode == 'loss':
            return self.loss(inputs)
        if mode == 'tensor':
            return self.encode(inputs)
        self._draw_mask(inputs)  # a size that patches do not fill would shift the probe's labels
        return [{'features': one} for one in self.encode(inputs)]

    def encode(self, image: Tensor) -> Tensor:
        """Return the map (B, C, h, w) of images (B, in_chans, H, W), with all patches visible."""
        return self.vit.to_map(*self._run_vit(image))

    def loss(self, image: Tensor) -> dict[str, Tensor]:
        """Return weighted losses of one random mask for each image; that of pixels where masked."""
        visible, masked = self._draw_mask(image)
        predicted = self.predict(image, visible)
        losses = {}
        if 'pixels' in predicted:
            target = F.pixel_unshuffle(image, self.vit.patch_size)
            mean, deviation = self._statistics(target)
            error = predicted['pixels'] - (target - mean) / deviation
            losses['pixels'] = (error.square().mean(1) * masked).sum() / masked.sum()
        if self.teacher is not None:
            losses['features'] = self.teacher.loss(predicted['features'], image)
        return {f'loss_{name}': self.loss_weights[name] * x for name, x in losses.items()}

    def predict(self, image: Tensor, visible: Tensor) -> dict[str, Tensor]:
        """Return the decoder's maps (B, channels, h, w) from the patches `visible` (B, K)."""
        tokens, context = self._run_vit(image, visible)
        return self.decoder(tokens, visible, context.grid)

    @torch.no_grad()
    def reconstruct(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Replace masked patches by predictions, which get mean and deviation of the true patch.

        Args:
            image: (B, in_chans, H, W), normalised.

        Returns:
            Images (B, in_chans, H, W), normalised as given, and (B, h, w), True where masked.
        """
        if not self.loss_weights['pixels']:
            raise ValueError('loss_weights.pixels=0: no pixels are predicted; set it above 0')
        visible, masked = self._draw_mask(image)
        patches = F.pixel_unshuffle(image, self.vit.patch_size)
        mean, deviation = self._statistics(patches)
        pixels = self.predict(image, visible)['pixels'] * deviation + mean
        patches = torch.where(masked[:, None], pixels, patches)
        return F.pixel_shuffle(patches, self.vit.patch_size), masked

    def _draw_mask(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Draw indices (B, K) of visible patches, and (B, h, w), True where a patch is masked."""
        (height, width), patch = image.shape[-2:], self.vit.patch_size
        grid = (height // patch, width // patch)
        total = grid[0] * grid[1]
        count = math.floor(total * (1 - self.mask_ratio) + 1e-6)  # as released; 10 * (1 - 0.9) < 1
        if height % patch or width % patch or not 0 < count < total:
            raise ValueError(
                f'got images of {height}x{width} px (height x width) for patches of {patch} px; '
                f'mask_ratio={self.mask_ratio} makes {count} of the {total} patches of an image '
                f'visible. Give multiples of {patch} px, with a visible and a masked patch or more'
            )
        noise = torch.rand(len(image), total).to(image.device)  # the same masks on any device
        visible = noise.argsort(dim=1)[:, :count]
        masked = torch.ones_like(noise, dtype=torch.bool).scatter(1, visible, False)
        return visible, masked.unflatten(1, grid)

    def init_weights(self) -> None:
        """Load the weights that `vit` and `teacher` name."""
        super().init_weights()
        if self.teacher is not None:
            self.teacher.vit.init_weights()

    def _run_vit(self, image: Tensor, visible: Tensor | None = None) -> tuple[Tensor, TokenContext]:
        """Return normalised tokens (B, P + K, C) of the visible patches, or (None) of all."""
        tokens, context = self.vit.embed(image)
        if visible is not None:
            tokens = keep_patches(self.vit, tokens, context, visible)
        tokens = self.vit.run_blocks(tokens, context, 0, self.vit.depth)
        return self.vit.model.norm(tokens), context

    def _statistics(self, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and deviation (B, 1, h, w) of patches; the variance is unbiased, + 1e-6."""
        if not self.norm_pixels:
            return patches.new_zeros(()), patches.new_ones(())
        variance, mean = torch.var_mean(patches, dim=1, keepdim=True)
        return mean, (variance + 1e-6).sqrt()


def _check_weights(given: dict[str, float] | None, *, has_teacher: bool) -> dict[str, float]:
    """Return the weight of each objective; raise `ValueError` if they are not usable."""
    default = {'pixels': 1.0} | ({'features': 1.0} if has_teacher else {})
    weights = default | (given or {})
    usable = all(0 <= one < math.inf for one in weights.values()) and any(weights.values())
    if weights.keys() != default.keys() or not usable:
        raise ValueError(
            f'loss_weights={given}: give dict(pixels=1.0, features=1.0) or one of these, >= 0 and '
            'not all 0; features only with teacher=dict(...)'
        )
    return weights
