"""ViT-Adapter-B on DINOv3 ViT-B/16, with the recipe of DINOv2's config."""

_base_ = '../vit_adapter/vit-adapter-b-dinov2_mask-rcnn_8xb2-3x_coco.py'

model_name = 'vit_base_patch16_dinov3.lvd1689m'
model = dict(backbone=dict(vit=dict(model_name=model_name, model_kwargs=dict(_delete_=True))))
