"""The flagship with a plateau schedule and early stopping, both by mIoU.

Validated every 4000 iterations: the learning rate falls to a tenth after three validations without
a gain of 0.1 mIoU; training ends after eight, or at 160k iterations.
"""

_base_ = '../vit_upernet_ade20k.py'

param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(
        type='ReduceOnPlateauLR',
        monitor='mIoU',
        rule='greater',
        factor=0.1,
        patience=2,  # it acts on the validation after these
        threshold=0.1,
        threshold_rule='abs',
    ),
]
train_cfg = dict(val_interval=4000)
default_hooks = dict(checkpoint=dict(interval=4000))
custom_hooks = [
    dict(type='EarlyStoppingHook', monitor='mIoU', rule='greater', min_delta=0.1, patience=8)
]
