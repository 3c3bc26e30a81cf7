"""A frozen PE-Spatial ViT-B/16, on the grid that it was trained on. It has no final norm."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_pe_spatial_base_patch16_512.fb'
mean, std = [127.5] * 3, [127.5] * 3
model = dict(backbone=dict(tap_norm=False))
