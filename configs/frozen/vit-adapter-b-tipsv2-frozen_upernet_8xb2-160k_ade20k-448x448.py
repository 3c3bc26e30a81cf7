"""A frozen TIPSv2 ViT-B/14, on the grid that it was trained on: 32 patches of 14."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_base_patch14_reg1_tipsv2.webli'
# Images from 0 to 1.
mean, std = [0.0] * 3, [255.0] * 3
crop_size = (448, 448)
