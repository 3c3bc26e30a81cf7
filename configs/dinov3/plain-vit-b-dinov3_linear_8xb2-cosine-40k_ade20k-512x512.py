"""The linear probe of DINOv3 on ViT-B/16, with its own schedule.

Differences to the release: whole channels are dropped after the batch norm, not before it, and
the cosine begins after the warm-up.
"""

_base_ = [
    'vit_dense::_base_/models/linear_plain_vit.py',
    'vit_dense::_base_/datasets/ade20k.py',
    'vit_dense::_base_/schedules/adamw_40k.py',
    'vit_dense::_base_/default_runtime.py',
]

model_name = 'vit_base_patch16_dinov3.lvd1689m'
width, depth = 768, 12

model = dict(
    data_preprocessor=dict(size=_base_.crop_size, test_cfg=dict(size_divisor=16)),
    backbone=dict(vit=dict(model_name=model_name, frozen_stages=depth)),
    decode_head=dict(in_channels=width, num_classes=_base_.num_classes, dropout_ratio=0.1),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(341, 341)),
)
optim_wrapper = dict(optimizer=dict(weight_decay=1e-3))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
