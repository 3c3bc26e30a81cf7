"""Segmentation with few images (about 10 to 50): a linear layer on a frozen DINOv2 ViT-S/14.

The layer takes the last four blocks. Nothing else is trained, so it neither forgets nor overfits as
fast as a whole model, needs little memory, and trains on a CPU. Objects are outlined coarsely: with
more images use `vit_upernet_small.py`, which has the same variables.
"""

_base_ = [
    'vit_dense::_base_/models/linear_plain_vit.py',
    'vit_dense::_base_/datasets/small_segmentation.py',
    'vit_dense::_base_/schedules/adamw_epochs.py',
    'vit_dense::_base_/default_runtime.py',
]

model_name = 'vit_small_patch14_dinov2.lvd142m'
width, depth = 384, 12
patch_size = 14
# 32 patches.
crop_size = (448, 448)
scale = (896, 448)
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
max_epochs = 100
val_interval = 10

model = dict(
    data_preprocessor=dict(
        mean=mean,
        std=std,
        bgr_to_rgb=_base_.bgr,
        size=crop_size,
        test_cfg=dict(size_divisor=patch_size),
    ),
    backbone=dict(
        num_maps=4,
        vit=dict(
            model_name=model_name,
            frozen_stages=depth,
            model_kwargs=dict(in_chans=len(mean)),
        ),
    ),
    decode_head=dict(
        in_channels=[width] * 4, in_index=[0, 1, 2, 3], num_classes=_base_.num_classes
    ),
    test_cfg=dict(
        mode='slide', crop_size=crop_size, stride=tuple(edge * 2 // 3 for edge in crop_size)
    ),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3, weight_decay=1e-4))
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=val_interval, max_keep_ckpts=1),
)
log_processor = dict(by_epoch=True)
