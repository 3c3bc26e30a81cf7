"""The released ViT-CoMer-S on DINOv2 with Mask R-CNN, for its trained file."""

_base_ = '../vit_comer/vit-comer-s-dinov2_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(
            type='ReleasedTimmViT',
            pretrained=False,
            model_kwargs=dict(img_size=592),  # 37 x 37 positions, as DINOv2 has for 518 px
        ),
    ),
)
