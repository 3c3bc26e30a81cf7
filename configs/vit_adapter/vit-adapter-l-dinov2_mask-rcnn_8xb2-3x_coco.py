"""ViT-Adapter-L on DINOv2 ViT-L/14, patch kernels resized to 16 pixels: the published recipe.

Released with a mean and std of 127.5; these weights were trained with ImageNet's, as here.
"""

_base_ = './vit-adapter-l-augreg_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        vit=dict(
            model_name='vit_large_patch14_dinov2.lvd142m',
            model_kwargs=dict(patch_size=16),
        ),
    ),
)
# Low learning rates in the early blocks, whose features degrade with large steps.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.65))
