"""ViT-Adapter-S on DeiT-S with Faster R-CNN: the recipe of Mask R-CNN, boxes only."""

_base_ = [
    '../_base_/models/faster_rcnn_vit_adapter.py',
    '../_base_/datasets/coco_detection.py',
    '../_base_/schedules/det_adamw_1x.py',
    '../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_small_patch16_224.fb_in1k', drop_path_rate=0.2),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[384] * 4),
    roi_head=dict(bbox_head=dict(num_classes=_base_.num_classes)),
)
