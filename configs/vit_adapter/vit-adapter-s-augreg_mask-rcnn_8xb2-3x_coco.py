"""ViT-Adapter-S on the AugReg ViT-S/16, with their own normalisation.

For AugReg only the L size was published: the recipe is that of DeiT-S.
"""

_base_ = './vit-adapter-s-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(vit=dict(model_name='vit_small_patch16_224.augreg_in21k_ft_in1k')),
)
