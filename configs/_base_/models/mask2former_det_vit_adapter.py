"""Mask2Former on ViT-Adapter-B for instances: 100 queries, each a mask and its class.

Source: Cheng et al. 2022. `num_things_classes` of both heads and the length of `class_weight` (one
more, for "nothing") depend on the number of classes: the leaf sets them.
"""

_base_ = ['./det_vit_adapter.py', './mask2former_head.py']

model = dict(
    type='Mask2Former',
    # All images are squares of 1024 pixels; the padding is no part of any mask.
    data_preprocessor=dict(pad_size_divisor=1024, pad_mask=True, mask_pad_value=0),
    neck=None,
    panoptic_head=dict(
        type='Mask2FormerHead',
        in_channels=[768, 768, 768, 768],
        num_things_classes=80,
        num_stuff_classes=0,
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            class_weight=[1.0] * 80 + [0.1],
        ),
        **_base_.mask2former_head,
    ),
    panoptic_fusion_head=dict(
        type='MaskFormerFusionHead', num_things_classes=80, num_stuff_classes=0, loss_panoptic=None
    ),
    train_cfg=_base_.mask2former_train_cfg,
    test_cfg=dict(
        panoptic_on=False,
        semantic_on=False,
        instance_on=True,
        max_per_image=100,
        iou_thr=0.8,
        filter_low_score=True,
    ),
)
