"""Swin-T under UPerNet: the published recipe, all layers at one learning rate."""

_base_ = '../vit_upernet_ade20k.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        _delete_=True,
        type='TimmPyramid',
        model_name='swin_tiny_patch4_window7_224.ms_in1k',
        pretrained=True,
        drop_path_rate=0.3,
        norm='LN',
    ),
    decode_head=dict(in_channels=[96, 192, 384, 768]),
    auxiliary_head=dict(in_channels=384),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))
