"""ViT-Adapter-B on DeiT-B: the flagship under its systematic name."""

_base_ = '../vit_maskrcnn_coco.py'
