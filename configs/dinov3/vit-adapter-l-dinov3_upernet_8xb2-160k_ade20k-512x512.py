"""ViT-Adapter-L on DINOv3 ViT-L/16, with the learning rates of DINOv2's config.

The ViT is trained, so that the injectors, which DINOv3's own adapter leaves out, are kept.
"""

_base_ = '../vit_adapter/vit-adapter-l-dinov2_upernet_8xb2-160k_ade20k-512x512.py'

model_name = 'vit_large_patch16_dinov3.lvd1689m'
model = dict(backbone=dict(vit=dict(model_name=model_name, model_kwargs=dict(_delete_=True))))
