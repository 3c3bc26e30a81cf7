"""The released light ViT-Adapter-B: one exchange, no FFN, no ViT maps in the outputs."""

_base_ = './vit-adapter-b-deit_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        type='LightViTAdapter',
        interaction_indexes=[(0, 11)],
        cffn_ratio=0.0,
        vit_feature_source='none',
    ),
)
