"""The released ViT-Adapter-T with Mask R-CNN, for its trained file.

For other sizes, take the leaf in `vit_adapter/` with
`--cfg-options model.backbone.vit.type=ReleasedTimmViT`.
"""

_base_ = '../vit_adapter/vit-adapter-t-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(type='ReleasedTimmViT', pretrained=False, model_kwargs=dict(init_values=1.0))
    ),
)
