"""The drawn street scenes with boxes and masks: 160x128 px, cars, pedestrians and signs.

`python -m examples.streets --out data/demo`, run in a checkout, writes them; so does
`make demo-det`.
"""

dataset_type = 'CheckedCocoDataset'
data_root = 'data/demo/'
metainfo = dict(
    classes=('car', 'pedestrian', 'sign'), palette=[(0, 0, 142), (220, 20, 60), (220, 220, 0)]
)
num_classes = len(metainfo['classes'])
scale = (160, 128)
test_scale = (scale[0] * 5 // 4, scale[1] * 5 // 4)

train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.5), keep_ratio=True),
    dict(
        type='RandomCrop', crop_type='absolute', crop_size=(scale[1], scale[1]), recompute_bbox=True
    ),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
    # No photometric distortion: light and weather already vary between scenes.
    dict(type='RandomFlip', prob=0.5),
    dict(type='PackDetInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    # Objects have the average size of those in training crops.
    dict(type='Resize', scale=test_scale, keep_ratio=True),
    # After Resize: labels keep their original size, and predictions are resized to it.
    dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
    dict(type='PackDetInputs'),
]
tta_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        type='TestTimeAug',
        transforms=[
            [dict(type='Resize', scale=test_scale, keep_ratio=True)],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs')],
        ],
    ),
]
train_dataloader = dict(
    batch_size=2,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_training.json',
        data_prefix=dict(img='images/training/'),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=1,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type=dataset_type,
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instances_validation.json',
        data_prefix=dict(img='images/validation/'),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# Measured against the annotations of the data set.
val_evaluator = dict(type='CheckedCocoMetric', metric=['bbox', 'segm'])
test_evaluator = val_evaluator
