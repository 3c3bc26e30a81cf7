"""MobileViTv2-1.0 under Mask R-CNN; the schedule is Swin-T's.

Its weights expect images with values 0 to 1. Batch norms keep their statistics: two images per
process are too few to estimate new ones.
"""

_base_ = './swin-t_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[0.0] * 3, std=[255.0] * 3),
    backbone=dict(
        model_name='mobilevitv2_100.cvnets_in1k',
        drop_path_rate=0.0,
        norm=None,
        norm_eval=True,
    ),
    neck=dict(in_channels=[128, 256, 384, 512]),
)
