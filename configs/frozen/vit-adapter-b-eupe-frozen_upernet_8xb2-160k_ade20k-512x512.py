"""A frozen EUPE ViT-B/16. Its licence excludes commercial use."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_base_patch16_dinov3_qkvb.eupe_lvd1689m'
