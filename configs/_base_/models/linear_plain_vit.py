"""A linear layer on a frozen DINOv2 ViT-B/14, to measure the quality of its features.

Source: DINOv2 (Oquab et al. 2023), section 7.4: batch norm and a 1x1 convolution on the last
block's patch tokens after the final norm; the ViT gets no gradient and stays in eval mode.

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
        size=(518, 518),
        # Whole patches, or logits would be stretched where a test image is smaller than the crop.
        test_cfg=dict(size_divisor=14),
    ),
    backbone=dict(
        type='PlainViT',
        vit=dict(
            type='TimmViT',
            model_name='vit_base_patch14_dinov2.lvd142m',
            pretrained=True,
            frozen_stages=12,  # all blocks
            final_norm=True,
        ),
        num_maps=1,
    ),
    decode_head=dict(type='LinearHead', in_channels=768, in_index=0, num_classes=150),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
