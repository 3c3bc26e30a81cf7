"""ViT-Adapter-B on DeiT-B, 12 epochs at one scale: the published recipe."""

_base_ = [
    '../_base_/models/mask_rcnn_vit_adapter.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/det_adamw_1x.py',
    '../_base_/det_runtime.py',
]

num_classes = _base_.num_classes
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes))
)
