"""ViT-Adapter-B on DeiT-B with Cascade Mask R-CNN: the published recipe."""

_base_ = [
    '../_base_/models/cascade_mask_rcnn_vit_adapter.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/det_adamw_3x.py',
    '../_base_/det_runtime.py',
]

num_classes = _base_.num_classes
model = dict(
    roi_head=dict(
        bbox_head=[dict(head, num_classes=num_classes) for head in _base_.model.roi_head.bbox_head],
        mask_head=dict(num_classes=num_classes),
    ),
)
