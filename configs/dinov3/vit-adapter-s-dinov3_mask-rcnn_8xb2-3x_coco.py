"""ViT-Adapter-S on DINOv3 ViT-S/16, with the recipe of DINOv2's config."""

_base_ = '../vit_adapter/vit-adapter-s-dinov2_mask-rcnn_8xb2-3x_coco.py'

model_name = 'vit_small_patch16_dinov3.lvd1689m'
model = dict(backbone=dict(vit=dict(model_name=model_name, model_kwargs=dict(_delete_=True))))
