"""ViT-Adapter-B on the AugReg ViT-B/16: the flagship under its systematic name."""

_base_ = '../vit_upernet_ade20k.py'
