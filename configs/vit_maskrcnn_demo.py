"""Two cores, a few minutes: a tiny ViT-Adapter from scratch finds cars, pedestrians and signs.

`make demo-det` writes the data, trains and evaluates.
"""

_base_ = [
    '_base_/models/mask_rcnn_vit_adapter.py',
    '_base_/datasets/demo_det.py',
    '_base_/schedules/adamw_600.py',
    '_base_/det_runtime.py',
]

max_iters = 800
roi_extractor = dict(roi_layer=dict(sampling_ratio=2), out_channels=64, finest_scale=28)
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        # timm's test model: six blocks of width 64, no download.
        vit=dict(model_name='test_vit', pretrained=False, drop_path_rate=0.0, window_size=None),
        conv_inplane=32,
        deform_num_heads=4,
        n_points=2,
    ),
    neck=dict(in_channels=[64] * 4, out_channels=64, num_outs=4),
    # Small objects in small images, many of them upright: anchors of 16 to 128 pixels.
    rpn_head=dict(
        in_channels=64,
        feat_channels=64,
        anchor_generator=dict(scales=[4], ratios=[0.33, 1.0], strides=[4, 8, 16, 32]),
    ),
    roi_head=dict(
        bbox_roi_extractor=roi_extractor,
        bbox_head=dict(in_channels=64, fc_out_channels=128, num_classes=_base_.num_classes),
        # Masks of 14x14 pixels: objects are not much larger.
        mask_roi_extractor=dict(
            roi_layer=dict(output_size=7, sampling_ratio=2), out_channels=64, finest_scale=28
        ),
        mask_head=dict(
            num_convs=2, in_channels=64, conv_out_channels=64, num_classes=_base_.num_classes
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=128)),
        rpn_proposal=dict(nms_pre=300, max_per_img=200),
        rcnn=dict(sampler=dict(num=32), mask_size=14),
    ),
    test_cfg=dict(rpn=dict(nms_pre=300, max_per_img=200), rcnn=dict(max_per_img=50)),
)
optim_wrapper = dict(optimizer=dict(lr=1e-3), clip_grad=dict(max_norm=10.0))
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=20),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=20, end=max_iters),
]
train_cfg = dict(max_iters=max_iters, val_interval=max_iters)
default_hooks = dict(
    logger=dict(interval=20, log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=max_iters, save_best=None),
    pictures=dict(score=0.5),
)
log_processor = dict(by_epoch=False)
