"""Mask R-CNN on ViT-CoMer-B, with the two settings of the detection release.

`mrfp_ratio=0.5` for all sizes; segmentation has other values. `vit_feature_source='last'` and the
windows are inherited.
"""

_base_ = './mask_rcnn_vit_adapter.py'

model = dict(backbone=dict(type='ViTCoMer', mrfp_ratio=0.5))
