"""A linear layer on a frozen DINOv2 ViT-S/14, whose features are computed once and kept on disk.

Each image returns in four augmented versions (`views`), about 0.25 MB each. The head sees what it
would see on a `TimmViT`, to the rounding of float16: docs/fine_tuning.md.
"""

_base_ = [
    'vit_dense::_base_/models/linear_plain_vit.py',
    'vit_dense::_base_/datasets/camvid.py',
    'vit_dense::_base_/schedules/adamw_40k.py',
    'vit_dense::_base_/default_runtime.py',
]

# 18 patches of 14.
crop_size = (252, 252)
model = dict(
    data_preprocessor=dict(size=crop_size),
    backbone=dict(
        vit=dict(
            type='CachedTimmViT',
            model_name='vit_small_patch14_dinov2.lvd142m',
            cache_dir='work_dirs/features',
        ),
    ),
    decode_head=dict(in_channels=384, num_classes=_base_.num_classes),
)
train_dataloader = dict(
    dataset=dict(_delete_=True, type='FixedViews', views=4, dataset=_base_.train_dataloader.dataset)
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=50),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=50, end=2000),
]
train_cfg = dict(max_iters=2000, val_interval=500)
default_hooks = dict(logger=dict(interval=10), checkpoint=dict(interval=500))
