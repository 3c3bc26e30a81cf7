"""The boosted linear probe of DINOv2: the last four blocks concatenated, at a higher resolution.

Its published figures are with test-time augmentation: `tools/test.py --tta`. 644 pixels are 46
patches of 14, next to the protocol's 640.
"""

_base_ = [
    'vit_dense::_base_/models/linear_plain_vit.py',
    'vit_dense::_base_/datasets/ade20k.py',
    'vit_dense::_base_/schedules/adamw_40k.py',
    'vit_dense::_base_/default_runtime.py',
]

crop_size = (644, 644)

model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(num_maps=4),
    decode_head=dict(in_channels=[768] * 4, in_index=[0, 1, 2, 3], num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=crop_size,
        stride=tuple(edge * 2 // 3 for edge in crop_size),
    ),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
