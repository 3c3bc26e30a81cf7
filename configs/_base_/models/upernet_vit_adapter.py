"""ViT-Adapter-B on the AugReg ViT-B/16, under UPerNet with an FCN auxiliary head.

The ViT has the architecture of the classifier. The releases add a LayerScale that starts at 1 for
all weights: `model_kwargs=dict(init_values=1.0)` of `vit` does the same.

Number of classes, crop size and sliding-window test depend on the data set: the leaf sets them.
"""

# Works with one image (UPerNet pools to 1x1); `sync_bn` in default_runtime.py synchronises it.
norm_cfg = dict(type='TolerantBN', requires_grad=True)

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        # The normalisation of AugReg; DeiT and DINOv2 need that of ImageNet.
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
        type='FastUPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
