"""Mask R-CNN on ViT-CoMer-B, with the two settings of the detection release.

`mrfp_ratio=0.5` for all sizes; segmentation has others. `vit_feature_source='last'` and the windows
come with the base.
"""

_base_ = './mask_rcnn_vit_adapter.py'

model = dict(backbone=dict(type='ViTCoMer', mrfp_ratio=0.5))
