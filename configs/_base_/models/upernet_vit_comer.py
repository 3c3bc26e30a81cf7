"""ViT-CoMer-B on DeiT-B, under UPerNet with an FCN auxiliary head.

`mrfp_ratio` is that of the segmentation release for this size; detection has 0.5 (weights fit one
value only). `vit_feature_source='stages'` is inherited: the map of each stage is added.
"""

_base_ = './upernet_vit_adapter.py'

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        type='ViTCoMer',
        vit=dict(model_name='deit_base_patch16_224.fb_in1k'),
        mrfp_ratio=1.0,
    ),
)
