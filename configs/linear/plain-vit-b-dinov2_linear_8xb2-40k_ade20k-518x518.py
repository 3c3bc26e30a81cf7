"""The linear probe of DINOv2 on ViT-B/14: one map, frozen, 40k iterations of 16 images.

For another ViT change model_name, mean and std, frozen_stages (its depth) and in_channels.
"""

_base_ = [
    '../_base_/models/linear_plain_vit.py',
    '../_base_/datasets/ade20k_518.py',
    '../_base_/schedules/adamw_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=_base_.crop_size,
        stride=tuple(edge * 2 // 3 for edge in _base_.crop_size),
    ),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
