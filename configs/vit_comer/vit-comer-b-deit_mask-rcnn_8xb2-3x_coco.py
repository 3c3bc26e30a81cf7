"""ViT-CoMer-B on DeiT-B, Mask R-CNN, COCO, 3x with many scales.

Recipes were released on DINOv2 only; the learning rates are those of ViT-Adapter-B.
"""

_base_ = [
    '../_base_/models/mask_rcnn_vit_comer.py',
    '../_base_/datasets/coco_instance_ms.py',
    '../_base_/schedules/det_adamw_3x.py',
    '../_base_/det_runtime.py',
]

num_classes = _base_.num_classes
model = dict(
    roi_head=dict(bbox_head=dict(num_classes=num_classes), mask_head=dict(num_classes=num_classes))
)
