"""ViT-CoMer-S on DeiT-S, with the learning rates of ViT-Adapter-S: only DINOv2 was released."""

_base_ = './vit-comer-b-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_small_patch16_224.fb_in1k', drop_path_rate=0.2),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[384] * 4),
)
