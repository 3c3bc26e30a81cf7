"""The flagship: ViT-Adapter-B on the AugReg ViT-B/16, UPerNet, ADE20K, 160k iterations.

    python tools/train.py configs/vit_upernet_ade20k.py

The recipe is the one published for ViT-Adapter-B on DeiT-B: eight processes of two images each;
`--auto-scale-lr` for anything else.
To change the backbone, name another timm model and its width, mean and std below.
"""

_base_ = [
    '_base_/models/upernet_vit_adapter.py',
    '_base_/datasets/ade20k.py',
    '_base_/schedules/adamw_160k.py',
    '_base_/default_runtime.py',
]

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, size=_base_.crop_size),
    backbone=dict(vit=dict(model_name='vit_base_patch16_224.augreg_in21k_ft_in1k')),
    decode_head=dict(in_channels=[768] * 4, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=768, num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=_base_.crop_size,
        stride=tuple(edge * 2 // 3 for edge in _base_.crop_size),
    ),
)
