"""ViTDet-B with Cascade Mask R-CNN, 100 epochs: as published, but for the stages' weights."""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_vitdet.py',
    '../_base_/datasets/coco_instance_lsj.py',
    '../_base_/schedules/det_adamw_lsj_100e.py',
    '../_base_/det_runtime.py',
]

num_classes = _base_.num_classes
model = dict(
    # Images are padded to squares.
    data_preprocessor=dict(pad_size_divisor=max(_base_.image_size)),
    roi_head=dict(
        bbox_head=[dict(head, num_classes=num_classes) for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=num_classes),
    ),
)
# The schedule counts iterations, hence so do logs and checkpoints.
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=_base_.train_cfg.val_interval),
)
