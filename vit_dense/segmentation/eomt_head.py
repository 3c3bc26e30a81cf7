"""EoMTHead: class scores of queries, Mask2Former's losses, and scores of pixels.

The losses are mmdet's: a Hungarian assignment of queries to the classes of an image, then cross
entropy, binary cross entropy and dice loss at sampled points (Cheng et al. 2022).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmdet.models.losses import CrossEntropyLoss, DiceLoss
from mmdet.models.task_modules import HungarianAssigner, MaskPseudoSampler
from mmengine.model import BaseModule
from mmseg.models.decode_heads import Mask2FormerHead
from torch import Tensor, nn


class EoMTHead(Mask2FormerHead):
    """The part of EoMT after the network: each query has a class or none."""

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        loss_weights: Sequence[float] = (2.0, 5.0, 5.0),
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        ignore_index: int = 255,
    ) -> None:
        """Build the layer and the losses.

        Args:
            in_channels: Channels of the queries, `out_channels` of `EoMT`.
            num_classes: Number of classes.
            loss_weights: Weights of class, mask and dice, in the losses and in the assignment.
            no_object_weight: Weight of queries without a segment in the class loss.
            num_points: Points of each mask at which the losses are computed.
            ignore_index: Label of pixels that belong to no segment.
        """
        # Not `super().__init__`, which builds Mask2Former's decoders.
        BaseModule.__init__(self)
        self.in_channels = in_channels
        self.num_classes = self.out_channels = num_classes
        self.ignore_index = ignore_index
        self.align_corners = False
        self.cls_embed = nn.Linear(in_channels, num_classes + 1)
        self.class_weight = [1.0] * num_classes + [no_object_weight]
        self.num_points, self.oversample_ratio, self.importance_sample_ratio = num_points, 3.0, 0.75
        of_class, of_mask, of_dice = loss_weights
        self.loss_cls = CrossEntropyLoss(class_weight=self.class_weight, loss_weight=of_class)
        self.loss_mask = CrossEntropyLoss(use_sigmoid=True, loss_weight=of_mask)
        self.loss_dice = DiceLoss(naive_dice=True, eps=1.0, loss_weight=of_dice)
        self.assigner = HungarianAssigner(
            [
                {'type': 'mmdet.ClassificationCost', 'weight': of_class},
                {'type': 'mmdet.CrossEntropyLossCost', 'weight': of_mask, 'use_sigmoid': True},
                {'type': 'mmdet.DiceCost', 'weight': of_dice, 'pred_act': True, 'eps': 1.0},
            ]
        )
        self.sampler = MaskPseudoSampler()

    def init_weights(self) -> None:
        """Keep PyTorch's values; Mask2Former's method is about its decoders."""

    def forward(
        self, x: Sequence[tuple[Tensor, Tensor]], batch_data_samples: Any = None
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Return class logits (B, Q, num_classes + 1) and mask logits of each prediction."""
        self.num_queries = x[0][0].shape[1]  # mmdet's targets have this size
        return [self.cls_embed(queries) for queries, _ in x], [masks for _, masks in x]

    def predict(
        self, x: Sequence[tuple[Tensor, Tensor]], batch_img_metas: Any, test_cfg: Any
    ) -> Tensor:
        """Return scores (B, num_classes, H, W): sums over queries of class times mask."""
        classes, masks = self(x[-1:])
        shares = classes[-1].softmax(dim=-1)[..., :-1]  # (B, Q, num_classes)
        return torch.einsum('bqc,bqhw->bchw', shares, masks[-1].sigmoid())
