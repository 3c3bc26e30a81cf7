"""UPerNet and Mask R-CNN on one ViT-Adapter-B; the detector is that of `mask_rcnn_vit_adapter.py`.

The weights are AugReg's. Leaves set numbers of classes, crop size and sliding-window test.
"""

_base_ = './mask_rcnn_vit_adapter.py'

norm_cfg = dict(type='TolerantBN', requires_grad=True)
levels = _base_.model.neck.in_channels
normalisation = dict(mean=[127.5] * 3, std=[127.5] * 3, bgr_to_rgb=True)
detector = {name: part for name, part in _base_.model.items() if name != 'backbone'}
detector.update(
    type='mmdet.MaskRCNN',
    data_preprocessor=dict(
        type='DetDataPreprocessor', **normalisation, pad_size_divisor=32, pad_mask=True
    ),
)
head = dict(
    num_classes=150,
    dropout_ratio=0.1,
    norm_cfg=norm_cfg,
    align_corners=False,
)
model = dict(
    _delete_=True,
    type='MultiTaskModel',
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
    tasks=dict(
        seg=dict(
            type='mmseg.EncoderDecoder',
            data_preprocessor=dict(
                type='SegDataPreProcessor', **normalisation, seg_pad_val=255, size=(512, 512)
            ),
            decode_head=dict(
                type='FastUPerHead',
                in_channels=levels,
                in_index=[0, 1, 2, 3],
                pool_scales=(1, 2, 3, 6),
                channels=512,
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0),
                **head,
            ),
            auxiliary_head=dict(
                type='FCNHead',
                in_channels=levels[2],
                in_index=2,
                channels=256,
                num_convs=1,
                concat_input=False,
                loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4),
                **head,
            ),
            train_cfg=dict(),
            test_cfg=dict(mode='whole'),
        ),
        det=detector,
    ),
    loss_weights=dict(seg=1.0, det=1.0),
)
del detector, head, levels, normalisation
