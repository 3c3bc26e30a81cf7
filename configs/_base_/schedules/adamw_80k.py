"""The schedule of 160 000 iterations in half the time."""

_base_ = './adamw_160k.py'

param_scheduler = [
    _base_.param_scheduler[0],
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=80000),
]
train_cfg = dict(max_iters=80000, val_interval=8000)
