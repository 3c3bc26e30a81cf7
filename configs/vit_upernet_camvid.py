"""A small model on a small data set: ViT-Adapter-T and a slim UPerNet on CamVid.

    python tools/train.py configs/vit_upernet_camvid.py

One process, eight images of 256x256 a step; whole images are tested.
"""

_base_ = [
    '_base_/models/upernet_vit_adapter.py',
    '_base_/datasets/camvid.py',
    '_base_/schedules/adamw_8k.py',
    '_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    backbone=dict(
        vit=dict(model_name='vit_tiny_patch16_224.augreg_in21k_ft_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
        deform_ratio=1.0,
    ),
    decode_head=dict(in_channels=[192] * 4, channels=128, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=192, channels=64, num_classes=_base_.num_classes),
)
default_hooks = dict(
    logger=dict(interval=10), checkpoint=dict(interval=_base_.train_cfg.val_interval)
)
