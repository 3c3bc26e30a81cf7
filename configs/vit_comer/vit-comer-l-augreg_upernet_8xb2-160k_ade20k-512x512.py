"""ViT-CoMer-L on the AugReg ViT-L/16 at 384 px.

No UPerNet recipe was released for this size: the deformable attention is that of the released L
model with another head, `mrfp_ratio` that of the B size, learning rates those of ViT-Adapter-L.
"""

_base_ = './vit-comer-b-deit_upernet_8xb2-160k_ade20k-512x512.py'

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
    decode_head=dict(in_channels=[1024] * 4),
    auxiliary_head=dict(in_channels=1024),
)
optim_wrapper = dict(optimizer=dict(lr=2e-5, weight_decay=0.05))
