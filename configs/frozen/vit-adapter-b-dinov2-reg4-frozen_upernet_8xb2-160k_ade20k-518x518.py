"""A frozen DINOv2 ViT-B/14 with registers, on the grid that it was trained on: 37 patches of 14."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_base_patch14_reg4_dinov2.lvd142m'
crop_size = (518, 518)
