"""The flagship of detection: ViT-Adapter-B on DeiT-B, Mask R-CNN, COCO, 3x with many scales.

    python tools/train.py configs/vit_maskrcnn_coco.py

The recipe is the published one: eight processes of two images each, 36 epochs;
`--auto-scale-lr` for anything else.
To change the backbone, name another timm model and its width, mean and std below.
"""

_base_ = [
    '_base_/models/mask_rcnn_vit_adapter.py',
    '_base_/datasets/coco_instance_ms.py',
    '_base_/schedules/det_adamw_3x.py',
    '_base_/det_runtime.py',
]

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(vit=dict(model_name='deit_base_patch16_224.fb_in1k')),
    neck=dict(in_channels=[768] * 4),
    roi_head=dict(
        bbox_head=dict(num_classes=_base_.num_classes),
        mask_head=dict(num_classes=_base_.num_classes),
    ),
)
