"""EoMT on DINOv2 ViT-S with registers, ADE20K: 512 px crops, 40k iterations of 16 images."""

_base_ = [
    '../_base_/models/eomt.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/eomt_40k.py',
    '../_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=_base_.crop_size,
        stride=tuple(edge * 2 // 3 for edge in _base_.crop_size),
    ),
)
default_hooks = dict(checkpoint=dict(interval=_base_.train_cfg.val_interval))
