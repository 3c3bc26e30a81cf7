"""1x of detection: AdamW, 12 epochs, the rate falls to a tenth after the 8th and the 11th."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='LayerDecayOptimWrapperConstructor',
    # No layer decay: the released DeiT recipes use one learning rate.
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
max_epochs = 12
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', by_epoch=True, end=max_epochs, milestones=[8, 11], gamma=0.1),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
# The learning rate is for 16 images a step; `--auto-scale-lr` scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
