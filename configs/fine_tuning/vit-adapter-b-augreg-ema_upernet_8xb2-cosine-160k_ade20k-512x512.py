"""The flagship with averaged weights, a cosine schedule, and gradient clipping.

Validation uses the average (EMA over about the last 5000 steps), and checkpoints hold it as
`state_dict`; the trained weights are saved as `ema_state_dict`, for resuming.
"""

_base_ = '../vit_upernet_ade20k.py'

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=1500, end=160000),
]
custom_hooks = [
    # Batch norm's running statistics are averages already, and are averaged along.
    dict(type='EMAHook', ema_type='ExponentialMovingAverage', momentum=2e-4, update_buffers=True)
]
