"""COCO 2017 with boxes and masks, trained at many scales, for 3x schedules.

Source of the augmentation: DETR (Carion et al. 2020), as in the ViT-Adapter release, whose last
crop bounds the memory.
"""

_base_ = './coco_instance.py'

# For 1333x800 px: short edges of 480 to 800 px, crops of 384 to 600 px and of at most 1024 px.
short = _base_.scale[1]
many_scales = dict(
    type='RandomChoiceResize',
    scales=[(short * part // 25, _base_.scale[0]) for part in range(15, 26)],
    keep_ratio=True,
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomFlip', prob=0.5),
    dict(
        type='RandomChoice',
        transforms=[
            [many_scales],
            [
                dict(
                    type='RandomChoiceResize',
                    scales=[(short * part // 8, _base_.scale[0]) for part in (4, 5, 6)],
                    keep_ratio=True,
                ),
                dict(
                    type='RandomCrop',
                    crop_type='absolute_range',
                    crop_size=(short * 12 // 25, short * 3 // 4),
                    allow_negative_crop=True,
                ),
                many_scales,
            ],
        ],
    ),
    dict(
        type='RandomCrop',
        crop_type='absolute_range',
        crop_size=(short * 32 // 25, short * 32 // 25),
        allow_negative_crop=True,
    ),
    dict(type='PackDetInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
