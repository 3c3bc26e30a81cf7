"""ViT-CoMer-S on DINOv2 ViT-S/14, patch kernels resized to 16 pixels: the published recipe."""

_base_ = './vit-comer-s-deit_mask-rcnn_8xb2-3x_coco.py'

model = dict(
    backbone=dict(
        vit=dict(
            model_name='vit_small_patch14_dinov2.lvd142m',
            model_kwargs=dict(patch_size=16),
        ),
    ),
)
# Low learning rates in the early blocks, whose features degrade with large steps.
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=0.7))
