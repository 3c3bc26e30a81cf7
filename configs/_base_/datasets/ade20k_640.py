"""ADE20K in crops of 640x640 px; the long edge at most 2048, as in Mask2Former's recipes."""

_base_ = './ade20k.py'

crop_size = (640, 640)
scale = (max(2048, *crop_size), min(crop_size))

train_pipeline = [
    *_base_.train_pipeline[:2],
    dict(type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    *_base_.train_pipeline[4:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    dict(type='Resize', scale=scale, keep_ratio=True),
    *_base_.test_pipeline[2:],
]
tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=tuple(int(edge * by) for edge in scale), keep_ratio=True)
                for by in (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)
            ],
            *_base_.tta_pipeline[1].transforms[1:],
        ],
    ),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
