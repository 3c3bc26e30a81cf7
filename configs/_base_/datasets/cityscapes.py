"""Cityscapes, fine annotations: 2048x1024 px, 19 classes.

Reads `labelIds` as they are delivered; the identifiers that are not evaluated are ignored.
"""

_base_ = 'vit_dense::_base_/datasets/ade20k.py'

dataset_type = 'CheckedSegDataset'
data_root = 'data/cityscapes'
num_classes = 19
crop_size = (512, 1024)
scale = (2048, 1024)
metainfo = dict(
    classes=(
        *('road', 'sidewalk', 'building', 'wall', 'fence', 'pole', 'traffic light', 'traffic sign'),
        *('vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'train'),
        *('motorcycle', 'bicycle'),
    ),
    palette=[
        *([128, 64, 128], [244, 35, 232], [70, 70, 70], [102, 102, 156], [190, 153, 153]),
        *([153, 153, 153], [250, 170, 30], [220, 220, 0], [107, 142, 35], [152, 251, 152]),
        *([70, 130, 180], [220, 20, 60], [255, 0, 0], [0, 0, 142], [0, 0, 70], [0, 60, 100]),
        *([0, 80, 100], [0, 0, 230], [119, 11, 32]),
    ],
)
evaluated = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
label_map = {label: evaluated.index(label) if label in evaluated else 255 for label in range(34)}
dataset = dict(
    metainfo=metainfo,
    img_suffix='_leftImg8bit.png',
    seg_map_suffix='_gtFine_labelIds.png',
    label_map=label_map,
)
train_prefix = dict(img_path='leftImg8bit/train', seg_map_path='gtFine/train')
val_prefix = dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val')
train_dataloader = dict(dataset=dict(data_prefix=train_prefix, **dataset))
val_dataloader = dict(dataset=dict(data_prefix=val_prefix, **dataset))
test_dataloader = dict(dataset=dict(data_prefix=val_prefix, **dataset))
