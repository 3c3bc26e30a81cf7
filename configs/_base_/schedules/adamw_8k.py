"""The 160k recipe, shortened for data sets of a few hundred images: 8000 iterations."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.2e-4, betas=(0.9, 0.999), weight_decay=0.01),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.95),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=100, end=8000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=8000, val_interval=800)
auto_scale_lr = dict(enable=False, base_batch_size=8)
