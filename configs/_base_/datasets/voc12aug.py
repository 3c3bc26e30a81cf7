"""VOC2012 with the masks of the Semantic Boundaries Dataset: 10 582 training images, 21 classes.

`vit-dense prepare voc` writes `trainaug.txt` and `SegmentationClassAug`. For VOC's own 1464 images
set `train_list = 'ImageSets/Segmentation/train.txt'` and `train_masks = 'SegmentationClass'`.
"""

_base_ = 'vit_dense::_base_/datasets/ade20k.py'

dataset_type = 'CheckedSegDataset'
data_root = 'data/VOCdevkit/VOC2012'
train_list = 'ImageSets/Segmentation/trainaug.txt'
train_masks = 'SegmentationClassAug'
num_classes = 21
metainfo = dict(
    classes=(
        *('background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat'),
        *('chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person', 'pottedplant'),
        *('sheep', 'sofa', 'train', 'tvmonitor'),
    ),
    # Bit k of a class number sets bit 7 - k // 3 of channel k % 3, as in VOC's own masks.
    palette=[
        [sum((label >> bit & 1) << (7 - bit // 3) for bit in (c, c + 3, c + 6)) for c in range(3)]
        for label in range(num_classes)
    ],
)
train_dataset = dict(
    ann_file=train_list,
    data_prefix=dict(img_path='JPEGImages', seg_map_path=train_masks),
    metainfo=metainfo,
)
val_dataset = dict(
    ann_file='ImageSets/Segmentation/val.txt',
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    metainfo=metainfo,
)
train_dataloader = dict(dataset=train_dataset)
val_dataloader = dict(dataset=val_dataset)
test_dataloader = dict(dataset=val_dataset)
