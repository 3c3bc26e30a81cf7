"""ViT-Adapter-B on the AugReg ViT-B/16, 12 epochs at one scale.

For AugReg only the L size was published: the recipe is that of DeiT-B.
"""

_base_ = './vit-adapter-b-deit_mask-rcnn_8xb2-1x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(vit=dict(model_name='vit_base_patch16_224.augreg_in21k_ft_in1k')),
)
