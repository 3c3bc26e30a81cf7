"""The flagship with averaged weights, a cosine instead of a straight line, and clipped gradients.

The average (EMA, about the last 5000 steps) is what is validated and what checkpoints hold as
`state_dict`; the weights that were stepped go under `ema_state_dict`, for resuming.
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
