"""ViT-CoMer-B on DINOv2 ViT-B/14, its patch kernels resized to 16 pixels."""

_base_ = './vit-comer-b-deit_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        vit=dict(
            model_name='vit_base_patch14_dinov2.lvd142m',
            model_kwargs=dict(patch_size=16),
        ),
    ),
)
# Low learning rates in the early blocks, as in the released detection recipe.
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.6)
)
