"""MobileViTv2-1.0 (5 million parameters) under UPerNet; the schedule is Swin-T's.

Its weights expect images with values 0 to 1.
"""

_base_ = './swin-t_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
    backbone=dict(
        model_name='mobilevitv2_100.cvnets_in1k',
        drop_path_rate=0.0,
        norm=None,
    ),
    decode_head=dict(in_channels=[128, 256, 384, 512]),
    auxiliary_head=dict(in_channels=384),
)
