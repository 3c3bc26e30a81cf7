"""Images with masks of classes, and boxes and masks of objects: a batch trains both tasks.

The folder holds `images/{training,validation}`, `annotations/{training,validation}` (masks) and
`annotations/instances_{training,validation}.json`, as the drawn street scenes do. A config of your
own inherits it by `vit_dense::`, and sets the variables below.
"""

data_root = 'data/demo/'
seg_classes = ('sky', 'building', 'tree', 'road', 'sidewalk', 'car', 'pedestrian', 'sign')
det_classes = ('car', 'pedestrian', 'sign')
batch_size = 4
num_workers = 1
crop_size = (128, 128)
# Long and short edge; those of objects in tests are 5/4 of it.
scale = (crop_size[1] * 5 // 4, crop_size[0])

load_objects = dict(type='LoadAnnotations', with_bbox=True, with_mask=True)
resize = dict(type='Resize', scale=scale, keep_ratio=True)
enlarge = dict(type='Resize', scale=tuple(e * 5 // 4 for e in scale), keep_ratio=True)
# Labels are loaded after Resize: predictions are resized to the original size.
seg_test_pipeline = [
    dict(type='LoadImageFromFile'),
    resize,
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
det_test_pipeline = [
    dict(type='LoadImageFromFile'),
    enlarge,
    load_objects,
    dict(type='PackDetInputs'),
]
seg_data = dict(data_root=data_root, metainfo=dict(classes=seg_classes))
det_data = dict(data_root=data_root, metainfo=dict(classes=det_classes))

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='JointDataset',
        # Each task loads and packs its labels.
        datasets=dict(
            seg=dict(
                type='mmseg.CheckedSegDataset',
                data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
                pipeline=[dict(type='LoadAnnotations'), dict(type='PackSegInputs')],
                **seg_data,
            ),
            det=dict(
                type='mmdet.CheckedCocoDataset',
                ann_file='annotations/instances_training.json',
                data_prefix=dict(img='images/training/'),
                pipeline=[load_objects, dict(type='PackDetInputs')],
                **det_data,
            ),
        ),
        # mmdet's transforms move boxes, masks and label maps alike.
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='RandomResize', scale=scale, ratio_range=(1.0, 1.5), keep_ratio=True),
            dict(
                type='RandomCrop',
                crop_type='absolute',
                crop_size=crop_size,
                recompute_bbox=True,
                allow_negative_crop=True,
            ),
            dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2), keep_empty=False),
            dict(type='RandomFlip', prob=0.5),
            # Images of one size are equal for both tasks, so that they pass the encoder once.
            dict(type='Pad', size=crop_size[::-1], pad_val=dict(img=(128, 128, 128), seg=255)),
        ],
    ),
)
evaluation = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
)
val_dataloader = dict(
    seg=dict(
        dataset=dict(
            type='CheckedSegDataset',
            data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
            pipeline=seg_test_pipeline,
            **seg_data,
        ),
        **evaluation,
    ),
    det=dict(
        dataset=dict(
            type='CheckedCocoDataset',
            ann_file='annotations/instances_validation.json',
            data_prefix=dict(img='images/validation/'),
            test_mode=True,
            pipeline=det_test_pipeline,
            **det_data,
        ),
        **evaluation,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(
    seg=dict(type='IoUMetric', iou_metrics=['mIoU']),
    det=dict(type='CheckedCocoMetric', metric=['bbox', 'segm']),
)
test_evaluator = val_evaluator
del det_data, enlarge, evaluation, load_objects, resize, seg_data
