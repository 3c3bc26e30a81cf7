"""Images and masks of your own, tens to hundreds: a config that inherits sets the variables.

Image sizes are (long edge, short edge) in `scale`, crops (height, width); `mean` and `std` have one
value per channel, 0 to 255.
"""

data_root = 'data/custom'
classes = ('background', 'object')
# [[R, G, B], ...], one colour per class; None: `colours`, or chosen by mmseg.
palette = None
train_images = 'images/training'
train_masks = 'annotations/training'
val_images = 'images/validation'
val_masks = 'annotations/validation'
# Text files with one image name a line, for a split within the folders; '': all images.
train_list = ''
val_list = ''
# None: every image format. A mask's name is the image's without `img_suffix`, and `seg_map_suffix`.
img_suffix = None
seg_map_suffix = '.png'
# Values of the masks -> numbers of the classes, {0: 0, 255: 1}; or one RGB colour per class.
label_map = dict()
colours = None
# The images are resized to `scale`; the model is trained on crops and tested with windows of them.
scale = (768, 384)
crop_size = (384, 384)
batch_size = 4
load_image = dict(type='LoadImageFromFile')
mean = [127.5, 127.5, 127.5]
std = [127.5, 127.5, 127.5]

num_classes = len(classes)
shown = palette or (colours or [])[:num_classes]
metainfo = dict(classes=classes, palette=shown) if shown else dict(classes=classes)
# Three channels are loaded as B, G, R, by LoadBands as well.
bgr = len(mean) == 3
# Takes colour images of 8 bits.
loads_colour = load_image.get('color_type', 'color') == 'color'
is_colour = bgr and loads_colour and load_image['type'] == 'LoadImageFromFile'
distortion = [dict(type='PhotoMetricDistortion')] if is_colour else []

train_pipeline = [
    load_image,
    dict(type='LoadAnnotations'),
    dict(type='RandomResize', scale=scale, ratio_range=(0.75, 1.5), keep_ratio=True),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    *distortion,
    dict(type='PackSegInputs'),
]
test_pipeline = [
    load_image,
    dict(type='Resize', scale=scale, keep_ratio=True),
    # After Resize: labels keep their original size, and predictions are resized to it.
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
tta_pipeline = [
    load_image,
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=tuple(int(edge * by) for edge in scale), keep_ratio=True)
                for by in (0.75, 1.0, 1.25, 1.5)
            ],
            [
                dict(type='RandomFlip', prob=0.0, direction='horizontal'),
                dict(type='RandomFlip', prob=1.0, direction='horizontal'),
            ],
            [dict(type='LoadAnnotations')],
            [dict(type='PackSegInputs')],
        ],
    ),
]
dataset = dict(
    type='CheckedSegDataset',
    data_root=data_root,
    metainfo=metainfo,
    img_suffix=img_suffix,
    seg_map_suffix=seg_map_suffix,
    label_map=label_map or None,
    colours=colours,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        ann_file=train_list,
        data_prefix=dict(img_path=train_images, seg_map_path=train_masks),
        pipeline=train_pipeline,
        **dataset,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=2,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        ann_file=val_list,
        data_prefix=dict(img_path=val_images, seg_map_path=val_masks),
        pipeline=test_pipeline,
        **dataset,
    ),
)
test_dataloader = val_dataloader

val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
