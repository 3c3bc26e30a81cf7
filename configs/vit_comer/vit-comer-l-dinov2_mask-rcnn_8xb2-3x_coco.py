"""ViT-CoMer-L on DINOv2 ViT-L/14, its patch kernels resized to 16 pixels.

No recipe was released: the learning rates are those of ViT-Adapter-L on the same weights.
"""

_base_ = './vit-comer-l-augreg_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        vit=dict(
            model_name='vit_large_patch14_dinov2.lvd142m',
            model_kwargs=dict(patch_size=16),
        ),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
