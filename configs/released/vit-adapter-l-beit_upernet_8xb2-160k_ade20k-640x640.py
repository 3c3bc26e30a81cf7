"""The released ViT-Adapter-L on BEiT-L with UPerNet: its recipe, and the config for its file.

The timm name is that of BEiT v2, whose normalisation the release used for both.
"""

_base_ = [
    'vit_dense::_base_/models/upernet_vit_adapter.py',
    'vit_dense::_base_/datasets/ade20k.py',
    'vit_dense::_base_/schedules/adamw_160k.py',
    'vit_dense::_base_/default_runtime.py',
]

crop_size = (640, 640)
# The long edge at most 2048, as in Mask2Former's recipes.
scale = (max(2048, *crop_size), min(crop_size))

model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], size=crop_size
    ),
    backbone=dict(
        vit=dict(
            model_name='beitv2_large_patch16_224.in1k_ft_in22k',
            pretrained=False,
            drop_path_rate=0.3,
            grad_checkpointing=True,
            model_kwargs=dict(img_size=640),
        ),
        deform_num_heads=16,
    ),
    decode_head=dict(in_channels=[1024] * 4, channels=1024, num_classes=_base_.num_classes),
    auxiliary_head=dict(in_channels=1024, num_classes=_base_.num_classes),
    test_cfg=dict(
        mode='slide',
        crop_size=crop_size,
        stride=tuple(edge * 2 // 3 for edge in crop_size),
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.9)
)
test_pipeline = [
    *_base_.test_pipeline[:2],
    dict(type='ResizeToMultiple', size_divisor=32),
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
