"""What every detector on a ViT-Adapter shares: ViT-Adapter-B on DeiT-B, and an FPN of 256 channels.

Two settings are those of the detection releases and differ from segmentation:

- `window_size=14`: blocks attend within windows of 14x14 tokens, so that 1333x800 pixels fit in
  memory. The default of `global_blocks` leaves the last block of each quarter global, which is
  the released schedule: every third block of 12 (T, S, B), every sixth of 24 (L).
- `vit_feature_source='last'`: the ViT's last map is added to all four outputs. Segmentation adds
  the map of each stage ('stages'). Weights fit both, results do not.
"""

model = dict(
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        # ImageNet's, as DeiT and DINOv2 need it; AugReg has 127.5.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='ViTAdapter',
        vit=dict(
            type='TimmViT',
            model_name='deit_base_patch16_224.fb_in1k',
            pretrained=True,
            drop_path_rate=0.3,
            window_size=14,
        ),
        deform_num_heads=12,
        deform_ratio=0.5,
        vit_feature_source='last',
    ),
    neck=dict(type='FPN', in_channels=[768, 768, 768, 768], out_channels=256, num_outs=5),
)
