"""A ViTDet pyramid (four maps from the last one of a ViT-B/16) in place of the adapter."""

_base_ = '../vit_upernet_ade20k.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='SimpleFeaturePyramid',
        vit=dict(
            type='TimmViT',
            model_name='vit_base_patch16_224.augreg_in21k_ft_in1k',
            pretrained=True,
            drop_path_rate=0.1,
        ),
        out_channels=256,
        norm='LN',
    ),
    decode_head=dict(in_channels=[256] * 4),
    auxiliary_head=dict(in_channels=256),
)
