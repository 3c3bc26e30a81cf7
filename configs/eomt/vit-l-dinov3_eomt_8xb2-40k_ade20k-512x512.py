"""EoMT on DINOv3 ViT-L, with the recipe of DINOv2."""

_base_ = './vit-s-dinov2_eomt_8xb2-40k_ade20k-512x512.py'

model = dict(
    backbone=dict(vit=dict(model_name='vit_large_patch16_dinov3.lvd1689m'), num_blocks=4),
    decode_head=dict(in_channels=1024),
)
