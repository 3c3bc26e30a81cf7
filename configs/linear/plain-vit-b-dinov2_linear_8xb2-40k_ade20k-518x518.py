"""The linear probe of DINOv2 on ViT-B/14: one map, frozen, 40k iterations of 16 images.

For another ViT change model_name, mean and std, frozen_stages (its depth) and in_channels.
"""

_base_ = [
    'vit_dense::_base_/models/linear_plain_vit.py',
    'vit_dense::_base_/datasets/ade20k.py',
    'vit_dense::_base_/schedules/adamw_40k.py',
    'vit_dense::_base_/default_runtime.py',
]

# 37 patches of 14, the grid that DINOv2 was trained on.
crop_size = (518, 518)

model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=crop_size,
        stride=tuple(edge * 2 // 3 for edge in crop_size),
    ),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
