"""ViT-CoMer-L on the AugReg ViT-L/16 at 384 px.

No recipe was released: the learning rates are those of ViT-Adapter-L.
"""

_base_ = './vit-comer-b-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    data_preprocessor=dict(mean=[127.5] * 3, std=[127.5] * 3),
    backbone=dict(
        vit=dict(
            model_name='vit_large_patch16_384.augreg_in21k_ft_in1k',
            drop_path_rate=0.4,
            grad_checkpointing=True,
        ),
        deform_num_heads=16,
        deform_ratio=0.5,
    ),
    neck=dict(in_channels=[1024] * 4),
)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.8))
