"""The released ViT-Adapter-L on BEiT-L with Mask2Former, for its trained file.

As in the release, images are normalised by ImageNet's values (hence the timm name of BEiT v2, which
has them), and masks become probabilities before they are enlarged.
"""

_base_ = 'vit_dense::mask2former/vit-adapter-l-beit_mask2former_8xb2-160k_ade20k-640x640.py'

custom_imports = dict(imports=['vit_dense.segmentation', 'vit_dense.released.mask2former'])

model = dict(
    data_preprocessor=dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375]),
    backbone=dict(
        vit=dict(
            model_name='beitv2_large_patch16_224.in1k_ft_in22k',
            pretrained=False,
            model_kwargs=dict(img_size=640),
        ),
    ),
    decode_head=dict(type='ReleasedMask2FormerHead'),
)
test_pipeline = [
    *_base_.test_pipeline[:2],
    dict(type='ResizeToMultiple', size_divisor=32),
    *_base_.test_pipeline[2:],
]
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
