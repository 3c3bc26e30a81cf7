"""ViT-CoMer-T on DeiT-T: the published recipe, with twice the learning rate of the others."""

_base_ = './vit-comer-b-deit_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        vit=dict(model_name='deit_tiny_patch16_224.fb_in1k', drop_path_rate=0.1),
        deform_num_heads=6,
        deform_ratio=1.0,
        mrfp_ratio=6.0,
    ),
    decode_head=dict(in_channels=[192] * 4),
    auxiliary_head=dict(in_channels=192),
)
optim_wrapper = dict(optimizer=dict(lr=1.2e-4))
