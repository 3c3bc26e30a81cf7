"""3x of detection: as 1x, in 36 epochs, with steps after the 27th and the 33rd."""

_base_ = './det_adamw_1x.py'

max_epochs = 36
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, end=max_epochs, milestones=[27, 33], gamma=0.1),
]
train_cfg = dict(max_epochs=max_epochs)
