"""EoMT on DINOv3 ViT-S, with the recipe of DINOv2."""

_base_ = './vit-s-dinov2_eomt_8xb2-40k_ade20k-512x512.py'

model = dict(
    backbone=dict(vit=dict(model_name='vit_small_patch16_dinov3.lvd1689m')),
    decode_head=dict(in_channels=384),
)
