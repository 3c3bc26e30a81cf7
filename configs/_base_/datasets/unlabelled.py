"""Images without labels, and some with masks for the probe: configs that inherit set variables.

`mean` and `std` have one value per channel, in the units of the loaded images.
"""

# A folder of images with any subfolders, or a list of folders.
data_root = 'data/unlabelled'
image_size = 224
batch_size = 64
num_workers = 4
load_image = dict(type='LoadImageFromFile')
mean = [123.675, 116.28, 103.53]
std = [58.395, 57.12, 57.375]
# A folder of images with masks, on which features are scored during the training; '': none.
probe_root = ''
probe_images = 'images/validation'
probe_masks = 'annotations/validation'
# Also label_map and colours: see `LoadProbeMask`.
probe_labels = dict(ignore_index=255)

train_pipeline = [
    load_image,
    dict(type='torchvision.transforms.v2.ToImage'),
    dict(
        type='torchvision.transforms.v2.RandomResizedCrop',
        size=image_size,
        scale=(0.2, 1.0),
        interpolation=3,  # bicubic
    ),
    dict(type='torchvision.transforms.v2.RandomHorizontalFlip'),
    dict(type='PackImage'),
]
probe_pipeline = [
    load_image,
    dict(type='LoadProbeMask', **probe_labels),
    dict(type='torchvision.transforms.v2.ToImage'),
    dict(
        type='torchvision.transforms.v2.Resize',
        size=(image_size, image_size),
        interpolation=3,  # bicubic; masks are resized to the nearest value
    ),
    dict(type='PackImage'),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(type='UnlabelledImages', data_root=data_root, pipeline=train_pipeline),
)
probe_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='LabelledImages',
        data_root=probe_root,
        data_prefix=dict(img_path=probe_images, seg_map_path=probe_masks),
        test_mode=True,
        pipeline=probe_pipeline,
    ),
)
val_dataloader = test_dataloader = probe_dataloader if probe_root else None
val_evaluator = test_evaluator = dict(type='FeatureProbe') if probe_root else None
