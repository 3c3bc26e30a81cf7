"""ViT-CoMer-B on DeiT-B, UPerNet, ADE20K: the published recipe."""

_base_ = [
    '../_base_/models/upernet_vit_comer.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/adamw_160k.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    auxiliary_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=_base_.crop_size,
        stride=tuple(edge * 2 // 3 for edge in _base_.crop_size),
    ),
)
