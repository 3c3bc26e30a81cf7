"""A frozen SigLIP 2 ViT-B/16, on the grid that it was trained on."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_base_patch16_siglip_512.v2_webli'
mean, std = [127.5] * 3, [127.5] * 3
