"""ViT-Adapter-B on DINOv3 ViT-B/16 with DINO, the detector: the recipe of the config on DeiT-S."""

_base_ = '../vit_adapter/vit-adapter-s-deit_dino-4scale_8xb2-12e_coco.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='vit_base_patch16_dinov3.lvd1689m', drop_path_rate=0.3),
        deform_num_heads=12,
        deform_ratio=0.5,
    ),
    neck=dict(in_channels=[768] * 3),
)
