"""ViT-Adapter-T on DeiT-T: the published recipe."""

_base_ = '../vit_maskrcnn_coco.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_tiny_patch16_224.fb_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[192] * 4),
)
