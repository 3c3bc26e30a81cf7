"""As with ViT-B, on DINOv3 ViT-S/16."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_small_patch16_dinov3.lvd1689m'
width, depth = 384, 12
