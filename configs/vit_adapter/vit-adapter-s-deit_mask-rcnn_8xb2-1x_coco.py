"""ViT-Adapter-S on DeiT-S, 12 epochs at one scale: the published recipe."""

_base_ = './vit-adapter-b-deit_mask-rcnn_8xb2-1x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_small_patch16_224.fb_in1k', drop_path_rate=0.2),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[384] * 4),
)
