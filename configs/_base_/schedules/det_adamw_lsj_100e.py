"""ViTDet's 100 epochs of COCO: 184 375 iterations of 64 images, steps at 88.9 and 96.3 %.

Source: ViTDet (Li et al. 2022), appendix A.2, and its release.
"""

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.1),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7),
)
max_iters = 184375
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-3, by_epoch=False, begin=0, end=250),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        end=max_iters,
        milestones=[163889, 177546],
        gamma=0.1,
    ),
]
# Every 4 epochs, a 25th of the training.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=7375)
# The learning rate is for 64 images a step; `--auto-scale-lr` scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=64)
