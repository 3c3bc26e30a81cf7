"""ViT-Adapter-L on the AugReg ViT-L/16 at 384 px: the published recipe."""

_base_ = '../vit_upernet_ade20k.py'

model = dict(
    backbone=dict(
        vit=dict(
            model_name='vit_large_patch16_384.augreg_in21k_ft_in1k',
            drop_path_rate=0.4,
            grad_checkpointing=True,
        ),
        deform_num_heads=16,
        deform_ratio=0.5,
    ),
    decode_head=dict(in_channels=[1024] * 4),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
