"""ViTDet-B: Mask R-CNN on the simple pyramid of a MAE ViT-B, 100 epochs: the published recipe.

64 images of 1024x1024 px a step: set `grad_checkpointing=True` of `vit` to save memory.
"""

_base_ = [
    '../_base_/models/mask_rcnn_vitdet.py',
    '../_base_/datasets/coco_instance_lsj.py',
    '../_base_/schedules/det_adamw_lsj_100e.py',
    '../_base_/det_runtime.py',
]

num_classes = _base_.num_classes
model = dict(
    # Images are padded to squares.
    data_preprocessor=dict(pad_size_divisor=max(_base_.image_size)),
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes)),
)
# The schedule counts iterations, hence so do logs and checkpoints.
log_processor = dict(by_epoch=False)
default_hooks = dict(
    logger=dict(log_metric_by_epoch=False),
    checkpoint=dict(by_epoch=False, interval=_base_.train_cfg.val_interval),
)
