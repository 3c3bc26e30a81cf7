"""Detection with few images (about 10 to 50): ATSS on a ViT-Adapter with a frozen DINOv2 ViT-S/14.

The adapter and a head of half the channels are trained. With more images use `vit_atss_small.py`,
which has the same variables.
"""

_base_ = 'vit_dense::vit_atss_small.py'

model_name = 'vit_small_patch14_dinov2.lvd142m'
depth = 12
max_epochs = 100
val_interval = 10

model = dict(
    backbone=dict(vit=dict(drop_path_rate=0.0, frozen_stages=depth)),
    neck=dict(out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=128, stacked_convs=2),
)
