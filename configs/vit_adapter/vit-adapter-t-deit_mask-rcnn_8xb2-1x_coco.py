"""ViT-Adapter-T on DeiT-T, 12 epochs at one scale: the published recipe.

Twice the learning rate and a fifth of the weight decay of the other sizes and of 3x.
"""

_base_ = './vit-adapter-b-deit_mask-rcnn_8xb2-1x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_tiny_patch16_224.fb_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[192] * 4),
)
optim_wrapper = dict(optimizer=dict(lr=2e-4, weight_decay=0.01))
