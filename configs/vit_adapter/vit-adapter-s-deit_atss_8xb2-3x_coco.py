"""ViT-Adapter-S on DeiT-S with ATSS: the published recipe."""

_base_ = [
    '../_base_/models/atss_vit_adapter.py',
    '../_base_/datasets/coco_detection_ms.py',
    '../_base_/schedules/det_adamw_3x.py',
    '../_base_/det_runtime.py',
]

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_small_patch16_224.fb_in1k', drop_path_rate=0.2),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    neck=dict(in_channels=[384] * 3),
    bbox_head=dict(num_classes=_base_.num_classes),
)
