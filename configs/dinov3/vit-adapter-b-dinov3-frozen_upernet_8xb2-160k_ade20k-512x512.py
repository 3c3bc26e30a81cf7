"""A frozen DINOv3 ViT-B/16 under the adapter of its release, and UPerNet.

Published are the adapter (no injectors, the ViT's final norm on every tap, 16 heads, drop path
0.3) and that the ViT is frozen. UPerNet and its schedule are those of the other configs here.
For another ViT set the variables.
"""

_base_ = 'vit_dense::vit_upernet_ade20k.py'

model_name = 'vit_base_patch16_dinov3.lvd1689m'
width, depth = 768, 12
mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]

model = dict(
    data_preprocessor=dict(mean=mean, std=std),
    backbone=dict(
        # drop_path_rate: of the extractors, as the blocks are frozen
        vit=dict(model_name=model_name, frozen_stages=depth, drop_path_rate=0.3),
        deform_num_heads=16,
        inject=False,
        tap_norm=True,
    ),
    decode_head=dict(in_channels=[width] * 4),
    auxiliary_head=dict(in_channels=width),
)
# No layer decay, as the pretrained weights are frozen; the adapter has the learning rate of the
# published recipes of ViT-Adapter.
optim_wrapper = dict(optimizer=dict(lr=1.2e-4), paramwise_cfg=dict(layer_decay_rate=1.0))
