"""The linear probe of DINOv3 on ViT-L/16."""

_base_ = 'vit_dense::dinov3/plain-vit-b-dinov3_linear_8xb2-cosine-40k_ade20k-512x512.py'

model_name = 'vit_large_patch16_dinov3.lvd1689m'
width, depth = 1024, 24
