"""ViT-Adapter-T on DeiT-T: the published recipe, with twice the learning rate of the others."""

_base_ = '../vit_upernet_ade20k.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        vit=dict(model_name='deit_tiny_patch16_224.fb_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=1.2e-4))
