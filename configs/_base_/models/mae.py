"""A masked autoencoder (He et al. 2022) with its decoder of eight blocks."""

model = dict(
    type='MaskedAutoencoder',
    vit=dict(type='TimmViT', model_name='vit_base_patch16_224.mae', pretrained=False),
    mask_ratio=0.75,
    decoder=dict(width=512, depth=8, heads=16),
    norm_pixels=True,
    data_preprocessor=dict(type='BandsPreprocessor', bgr_to_rgb=True),
)
