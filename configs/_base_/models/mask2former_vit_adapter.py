"""Mask2Former on ViT-Adapter-B for semantic segmentation: 100 queries, each a mask and its class.

Source: Cheng et al. 2022. mmseg takes the head from mmdet, so both must be installed
(`pip install -e '.[all]'`).

`num_classes` of the head and `class_weight`, which has one value more for "nothing", depend on
the data set, and so do crop size and sliding-window test: the leaf sets them.
"""

_base_ = './mask2former_head.py'

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[127.5, 127.5, 127.5],
        std=[127.5, 127.5, 127.5],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='ViTAdapter',
        vit=dict(
            type='TimmViT',
            model_name='vit_base_patch16_224.augreg_in21k_ft_in1k',
            pretrained=True,
            drop_path_rate=0.3,
        ),
        deform_num_heads=12,
        deform_ratio=0.5,
        vit_feature_source='stages',
    ),
    decode_head=dict(
        type='Mask2FormerHead',
        in_channels=[768, 768, 768, 768],
        num_classes=150,
        align_corners=False,
        loss_cls=dict(
            type='mmdet.CrossEntropyLoss',
            use_sigmoid=False,
            loss_weight=2.0,
            class_weight=[1.0] * 150 + [0.1],
        ),
        train_cfg=_base_.mask2former_train_cfg,
        **_base_.mask2former_head,
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
