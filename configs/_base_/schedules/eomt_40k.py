"""EoMT's recipe: AdamW, a low rate for early blocks, gradients clipped, a decay of power 0.9.

As released, the rate of the last block, the final norm and what surrounds the ViT is not decayed,
and weight decay includes biases and norms. Two differences: the release keeps the ViT frozen for
500 of the 1500 iterations of warm-up, and trains for 31 epochs (39 153 iterations).
"""

layer_decay = 0.8
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=0.01),
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(
        layer_decay_rate=layer_decay,
        norm_decay_mult=1.0,
        bias_decay_mult=1.0,
        flat_decay_mult=1.0,
        # The release counts from the last block, and the embeddings with the first one.
        custom_keys={
            'backbone.vit.': dict(lr_mult=layer_decay**-2),
            'backbone.vit.model.blocks.': dict(lr_mult=1 / layer_decay),
            'backbone.vit.model.norm.': dict(lr_mult=1.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=0.9, eta_min=0.0, by_epoch=False, begin=1500, end=40000),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=40000, val_interval=4000)
# The learning rate is for 16 images a step; `--auto-scale-lr` scales it to the actual batch size.
auto_scale_lr = dict(enable=False, base_batch_size=16)
