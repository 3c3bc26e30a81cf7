"""Images and boxes of your own, tens to hundreds: a config that inherits sets the variables.

Image sizes are (long edge, short edge); `mean` and `std` have one value per channel, 0 to 255.
"""

data_root = 'data/custom'
classes = ('object',)
# [[R, G, B], ...], one colour per class; None: chosen by mmdet.
palette = None
train_images = 'train'
val_images = 'val'
# A COCO file, or a folder of VOC, YOLO or labelme files.
train_boxes = 'annotations/train.json'
val_boxes = 'annotations/val.json'
# Text files with one image name a line, for a split of one annotation file; '': all images.
train_list = ''
val_list = ''
scale = (640, 480)
batch_size = 4
load_image = dict(type='LoadImageFromFile')
# ImageNet's, as DeiT needs it.
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]

num_classes = len(classes)
metainfo = dict(classes=classes, palette=palette) if palette else dict(classes=classes)
# Three channels are loaded as B, G, R, by LoadBands as well.
bgr = len(mean) == 3
# Takes colour images of 8 bits.
loads_colour = load_image.get('color_type', 'color') == 'color'
is_colour = bgr and loads_colour and load_image['type'] == 'LoadImageFromFile'
distortion = [dict(type='PhotoMetricDistortion')] if is_colour else []

train_pipeline = [
    load_image,
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    # Limits the memory. Every crop has at least one box.
    dict(type='RandomCrop', crop_type='absolute', crop_size=(scale[0], scale[0])),
    dict(type='FilterAnnotations', min_gt_bbox_wh=(2, 2)),
    dict(type='RandomFlip', prob=0.5),
    *distortion,
    dict(type='PackDetInputs'),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After Resize: labels keep their original size, and predictions are resized to it.
    dict(type='LoadAnnotations', with_bbox=True),
    dict(type='PackDetInputs'),
]
tta_pipeline = [
    load_image,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=tuple(int(edge * by) for edge in scale), keep_ratio=True)
                for by in (0.75, 1.0, 1.5)
            ],
            [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)],
            [dict(type='LoadAnnotations', with_bbox=True)],
            [dict(type='PackDetInputs')],
        ],
    ),
]
dataset = dict(type='CheckedCocoDataset', data_root=data_root, metainfo=metainfo)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    batch_sampler=dict(type='AspectRatioBatchSampler'),
    dataset=dict(
        ann_file=train_boxes,
        image_list=train_list,
        data_prefix=dict(img=train_images),
        filter_cfg=dict(filter_empty_gt=True, min_size=8),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    drop_last=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file=val_boxes,
        image_list=val_list,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader

# Measured against the annotations of the data set.
val_evaluator = dict(type='CheckedCocoMetric', metric='bbox')
test_evaluator = val_evaluator
