"""A ViT-Adapter on a frozen DINOv2 with SegFormer's head: a linear layer for each map and for all.

Source of the head: SegFormer (Xie et al. 2021), section 3.2, in the width of its smaller models.
"""

_base_ = 'vit_dense::vit_adapter/vit-adapter-b-dinov2-frozen_upernet_8xb2-160k_ade20k-518x518.py'

model = dict(
    decode_head=dict(
        _delete_=True,
        type='SegformerHead',
        in_channels=[768] * 4,
        in_index=[0, 1, 2, 3],
        channels=256,
        dropout_ratio=0.1,
        num_classes=_base_.num_classes,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
