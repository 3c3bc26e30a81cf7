"""ViT-Adapter-S on DINOv2 ViT-S/14, its patch kernels resized to 16 pixels."""

_base_ = './vit-adapter-s-deit_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        vit=dict(
            model_name='vit_small_patch14_dinov2.lvd142m',
            model_kwargs=dict(patch_size=16),
        ),
    ),
)
# DINOv2's features degrade with large steps in the early blocks: low learning rates, as in the
# released detection recipes (S 0.7, B 0.6, L 0.65). No recipe for segmentation was published.
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.05), paramwise_cfg=dict(layer_decay_rate=0.7)
)
