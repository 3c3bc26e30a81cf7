"""ViT-CoMer-T on DeiT-T, with the learning rates of ViT-Adapter-T: only DINOv2 was released."""

_base_ = './vit-comer-b-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_tiny_patch16_224.fb_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[192] * 4),
)
