"""EoMT on DINOv2 ViT-S with registers: queries in the last three blocks, no adapter, no decoder.

Source: Encoder-only Mask Transformer (Kerssies et al. 2025), as released: DINOv2's patch kernels
are resized to 16 pixels, so that masks have stride 4. The losses are mmdet's, which must be
installed (`pip install -e '.[all]'`).

Number of classes, crop size and sliding-window test depend on the data set: the leaf sets them.
"""

model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_val=0,
        seg_pad_val=255,
        size=(512, 512),
    ),
    backbone=dict(
        type='EoMT',
        vit=dict(
            type='TimmViT',
            model_name='vit_small_patch14_reg4_dinov2.lvd142m',
            pretrained=True,
            final_norm=True,
            model_kwargs=dict(patch_size=16),
        ),
        num_queries=100,
        num_blocks=3,
    ),
    decode_head=dict(type='EoMTHead', in_channels=384, num_classes=150),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
