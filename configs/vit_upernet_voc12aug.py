"""ViT-Adapter-B with UPerNet on VOC2012 (aug), 80k iterations of 16 crops of 512x512 px.

vit-dense prepare voc --source DOWNLOADS
python tools/train.py configs/vit_upernet_voc12aug.py
"""

_base_ = [
    '_base_/models/upernet_vit_adapter.py',
    'vit_dense::_base_/datasets/voc12aug.py',
    '_base_/schedules/adamw_80k.py',
    '_base_/default_runtime.py',
]

crop_size = _base_.crop_size
model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3, size=crop_size),
    backbone=dict(vit=dict(model_name='vit_base_patch16_224.augreg_in21k_ft_in1k')),
    decode_head=dict(in_channels=[768] * 4, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=768, num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide', crop_size=crop_size, stride=tuple(edge * 2 // 3 for edge in crop_size)
    ),
)
default_hooks = dict(checkpoint=dict(interval=8000))
