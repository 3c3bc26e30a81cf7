"""AdamW as published for MAE: 800 epochs, 40 of warm-up, then a cosine; no layer decay.

In other lengths, too, the warm-up takes a twentieth; `warm_up = 0` leaves it out.
"""

max_epochs = 800
warm_up = max_epochs // 20
val_interval = max(1, max_epochs // 20)

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
    # Biases, norms and embeddings are exempt from weight decay.
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(
        type='LinearLR',
        start_factor=1e-6,
        by_epoch=True,
        begin=0,
        end=warm_up,
        convert_to_iter_based=True,
    ),
    dict(
        type='CosineAnnealingLR',
        eta_min=0.0,
        by_epoch=True,
        begin=warm_up,
        end=max_epochs,
        convert_to_iter_based=True,
    ),
][0 if warm_up else 1 :]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=val_interval)
# The learning rate is for 256 images a step, and always scaled to the actual batch size.
auto_scale_lr = dict(enable=True, base_batch_size=256)
