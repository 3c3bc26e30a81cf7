"""ViT-Adapter-T on the AugReg ViT-T/16, with their own normalisation.

For AugReg only the L size was published: the recipe is that of DeiT-T.
"""

_base_ = './vit-adapter-t-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(vit=dict(model_name='vit_tiny_patch16_224.augreg_in21k_ft_in1k')),
)
