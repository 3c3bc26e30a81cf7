"""A ViT-Adapter on a frozen DINOv2 with FCN in place of UPerNet: maps joined, two convolutions."""

_base_ = 'vit_dense::vit_adapter/vit-adapter-b-dinov2-frozen_upernet_8xb2-160k_ade20k-518x518.py'

model = dict(
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        # Resizes all maps to stride 4 and concatenates them.
        input_transform='resize_concat',
        in_channels=[768] * 4,
        in_index=[0, 1, 2, 3],
        channels=512,
        num_convs=2,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=_base_.num_classes,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
)
