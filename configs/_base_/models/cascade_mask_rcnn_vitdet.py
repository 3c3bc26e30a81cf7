"""ViTDet with Cascade Mask R-CNN: three consecutive box heads, offsets shared by all classes.

In the paper, the losses of all stages have equal weights, and their gradients into the maps are
divided by three. Here the weights are 1, 1/2 and 1/4, as in mmdet's other cascades.
"""

_base_ = './mask_rcnn_vitdet.py'

# Each stage has a higher IoU threshold and finer offsets than the one before.
target_stds = ([0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1], [1 / 30, 1 / 30, 1 / 15, 1 / 15])
overlaps = (0.5, 0.6, 0.7)

model = dict(
    type='CascadeRCNN',
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                type='Shared4Conv1FCBBoxHead',
                in_channels=256,
                conv_out_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(
                    type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=stds
                ),
                reg_class_agnostic=True,
                norm_cfg=_base_.norm_cfg,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                loss_bbox=dict(type='L1Loss', loss_weight=1.0),
            )
            for stds in target_stds
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=overlap,
                    neg_iou_thr=overlap,
                    min_pos_iou=overlap,
                    match_low_quality=False,
                    ignore_iof_thr=-1,
                ),
                sampler=_base_.model.train_cfg.rcnn.sampler,
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for overlap in overlaps
        ],
    ),
)
