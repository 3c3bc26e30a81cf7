"""A small single-stage detector on a small data set: ViT-Adapter-T of six blocks, ATSS, BCCD.

    python tools/train.py configs/vit_atss_bccd.py

From random weights, one process, four crops of 240x240 a step: 90 minutes on one core. To start
from timm's weights, remove `depth` and set `pretrained=True`.
"""

_base_ = [
    '_base_/models/atss_vit_adapter.py',
    '_base_/datasets/bccd.py',
    '_base_/det_runtime.py',
]

max_iters = 2400
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        vit=dict(
            model_name='vit_tiny_patch16_224',
            pretrained=False,
            drop_path_rate=0.0,
            window_size=None,
            model_kwargs=dict(depth=6),
        ),
        conv_inplane=32,
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[192] * 3, out_channels=96, add_extra_convs=False, num_outs=4),
    # Cells measure 20 to 120 pixels: anchors of 48 to 384.
    bbox_head=dict(
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        num_classes=_base_.num_classes,
        anchor_generator=dict(octave_base_scale=6, strides=[8, 16, 32, 64]),
    ),
)
optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=6e-4, betas=(0.9, 0.999), weight_decay=0.05),
    clip_grad=dict(max_norm=10.0),
    constructor='LayerDecayOptimWrapperConstructor',
    # No layer decay: nothing is pretrained.
    paramwise_cfg=dict(layer_decay_rate=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=60),
    dict(type='CosineAnnealingLR', eta_min=0.0, by_epoch=False, begin=60, end=max_iters),
]
train_cfg = dict(type='IterBasedTrainLoop', max_iters=max_iters, val_interval=400)
auto_scale_lr = dict(enable=False, base_batch_size=4)
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=400),
)
log_processor = dict(by_epoch=False)
