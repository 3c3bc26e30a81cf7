"""Swin-T under Mask R-CNN, 36 epochs at many scales: the published recipe."""

_base_ = '../vit_maskrcnn_coco.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='TimmPyramid',
        model_name='swin_tiny_patch4_window7_224.ms_in1k',
        pretrained=True,
        drop_path_rate=0.2,
        norm='LN',
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
