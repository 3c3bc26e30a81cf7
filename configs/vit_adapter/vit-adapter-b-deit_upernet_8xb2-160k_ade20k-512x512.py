"""ViT-Adapter-B on DeiT-B: the published recipe, which the flagship uses on AugReg weights."""

_base_ = '../vit_upernet_ade20k.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(vit=dict(model_name='deit_base_patch16_224.fb_in1k')),
)
