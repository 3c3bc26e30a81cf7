"""ViTDet: Mask R-CNN on the simple pyramid of a plain ViT-B (Li et al. 2022).

Heads as published: two convolutions for proposals, four and a linear layer for boxes, layer norm.
The ViT differs: the release adds relative positions to its attention, initially zero; timm's ViT
has only absolute ones, as in pretraining.
"""

_base_ = './mask_rcnn_vit_adapter.py'

# Normalizes over the channels of each cell.
norm_cfg = dict(type='LN2d', eps=1e-6)

model = dict(
    # All images are padded to squares of 1024 px, the size of the learned positions.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True,
        type='SimpleFeaturePyramid',
        vit=dict(
            type='TimmViT',
            # Licence CC BY-NC 4.0.
            model_name='vit_base_patch16_224.mae',
            pretrained=True,
            drop_path_rate=0.1,
            window_size=14,
        ),
        out_channels=256,
        norm='LN',
    ),
    neck=dict(_delete_=True, type='LastLevelMaxPool', in_channels=[256, 256, 256, 256]),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)
