"""EoMT on DINOv2 ViT-B with registers."""

_base_ = './vit-s-dinov2_eomt_8xb2-40k_ade20k-512x512.py'

model = dict(
    backbone=dict(vit=dict(model_name='vit_base_patch14_reg4_dinov2.lvd142m')),
    decode_head=dict(in_channels=768),
)
