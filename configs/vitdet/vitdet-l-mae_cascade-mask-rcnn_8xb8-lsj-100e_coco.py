"""ViTDet-L on a MAE ViT-L with Cascade Mask R-CNN."""

_base_ = './vitdet-b-mae_cascade-mask-rcnn_8xb8-lsj-100e_coco.py'

model = dict(
    backbone=dict(
        vit=dict(
            model_name='vit_large_patch16_224.mae', drop_path_rate=0.4, grad_checkpointing=True
        ),
    ),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
