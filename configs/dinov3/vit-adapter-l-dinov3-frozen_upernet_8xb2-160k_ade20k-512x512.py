"""As with ViT-B, on DINOv3 ViT-L/16."""

_base_ = 'vit_dense::dinov3/vit-adapter-b-dinov3-frozen_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_large_patch16_dinov3.lvd1689m'
width, depth = 1024, 24
# The taps of the release: its first is not the end of a quarter.
model = dict(backbone=dict(interaction_indexes=[(0, 4), (5, 11), (12, 17), (18, 23)]))
