"""ViT-Adapter-B on the AugReg ViT-B/16 of 384 px, as released: heads at ten times the rate.

The flagship uses the weights of 224 px and the recipe of DeiT-B with layer-wise learning rates.
"""

_base_ = '../vit_upernet_ade20k.py'

model = dict(
    backbone=dict(vit=dict(model_name='vit_base_patch16_384.augreg_in21k_ft_in1k')),
)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5),
    paramwise_cfg=dict(layer_decay_rate=1.0, custom_keys=dict(head=dict(lr_mult=10.0))),
)
