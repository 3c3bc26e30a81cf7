"""AdamW for a layer on frozen features: a high rate, 1500 iterations of warm-up, a linear decay."""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.999), weight_decay=1e-4),
    constructor='LayerDecayOptimWrapperConstructor',
    # No layer decay: the pretrained weights are frozen.
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
# The learning rate is for 16 images a step; `--auto-scale-lr` scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
