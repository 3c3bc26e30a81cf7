"""The flagship on one GPU: four images a step, and an update after every four steps.

mmengine counts steps, not updates: the 160k updates of 16 images are 640k steps here, and every
interval is four times as long. Do not use `--auto-scale-lr`, which ignores accumulation.
"""

_base_ = '../vit_upernet_ade20k.py'

train_dataloader = dict(batch_size=4)
optim_wrapper = dict(accumulative_counts=4)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=6000),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=6000, end=640000),
]
train_cfg = dict(max_iters=640000, val_interval=64000)
default_hooks = dict(checkpoint=dict(interval=64000))
